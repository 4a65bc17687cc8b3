"""Package metadata; the exact tested versions are in requirements.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "agad_tf/__init__.py").read_text(), re.M).group(1)

setup(
    name="agad-tf",
    version=VERSION,
    description="Anomaly detection from many good images and a handful of labelled defects, in Keras 3",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",  # Keras 3.15 asks for it
    packages=find_packages(include=["agad_tf", "agad_tf.*"]),
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "keras>=3.15,<3.16",  # TensorFlow does not bound Keras above
        "numpy>=2.0",
        "scipy>=1.14",
        "scikit-learn>=1.5",
        "matplotlib>=3.9",
        "pillow>=11",
        "click>=8.1",
        "pyyaml>=6",
        "tqdm>=4.66",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "tfds": ["tensorflow-datasets>=4.9.10"],
        "tensorboard": ["tensorboard>=2.20"],
        "dev": ["pytest>=8", "pytest-xdist>=3.6", "ruff==0.17.6"],
    },
    entry_points={"console_scripts": ["agad-tf=agad_tf.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
