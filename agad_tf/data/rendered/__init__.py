"""Rendered photographs of parts, to try detectors on where no data set can be had.

Two objects and one texture, four kinds of defects each, down to 4 pixels in a photograph of 640 x 480:

- plate: brushed steel with holes, on a wooden bench; nearly aligned. burr, dent, scratch, stain;
- gear: turned steel on a belt, at any angle. broken_tooth, crack, rust, swarf;
- fabric: twill that fills the picture. broken_thread, hole, knot, oil.

Light, focus, distance and position vary from photograph to photograph. Texture, number and defect belong to
the part, of which there are several photographs. They are drawings: what a detector reaches on them says
nothing about your parts.

    from agad_tf.data.rendered import render, write_folder
    photos = render("plate", n_normal=200, defects={"scratch": 12, "dent": 10}, seed=1)
    write_folder(photos, "parts")
"""

from agad_tf.data.rendered.folders import write_folder
from agad_tf.data.rendered.load import as_samples, load_photos
from agad_tf.data.rendered.photos import OBJECTS, Photos, render

__all__ = ["OBJECTS", "Photos", "as_samples", "load_photos", "render", "write_folder"]
