"""Where samples come from: folders, lists, archives, tables, shards, TensorFlow Datasets."""
