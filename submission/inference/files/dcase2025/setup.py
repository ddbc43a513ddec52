"""Install the inference package: the folder beside this file whose name is the team's."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
NAME = next(path.parent.name for path in sorted(HERE.glob("*/__init__.py")) if (path.parent / "ckpts").is_dir())

setup(
    name=NAME,
    version="1.0.0",
    description="Inference package for DCASE 2025 Task 1",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={"": ["*.safetensors", "*.wav", "*.csv"]},
    install_requires=(HERE / "requirements.txt").read_text().split(),
    python_requires=">=3.10",
)
