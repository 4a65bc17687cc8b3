"""`python -m study`: the same as `agad-tf reproduce`."""

import sys

from agad_tf.cli import main

main(["reproduce", *sys.argv[1:]], prog_name="agad-tf")
