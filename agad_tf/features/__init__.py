"""Features of frozen, pretrained networks: where they come from, the layer, and their store."""
