"""What pyproject.toml cannot say: the samples lie at the root of the repository, and travel in the wheel below clipcal."""

from setuptools import find_namespace_packages, setup

SAMPLES = {"clipcal.sources.samples.configs": "configs", "clipcal.sources.samples.sample_models": "sample_models"}

setup(
    packages=[*find_namespace_packages(include=["clipcal", "clipcal.*"]), *SAMPLES],
    package_dir=SAMPLES,
    package_data={
        "clipcal": ["py.typed"],
        "clipcal.views.html": ["assets/*"],
        "clipcal.sources.samples.configs": ["*.yaml"],
    },
)
