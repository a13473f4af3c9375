"""Pairs of a version of Kubernetes and a file of objects in; for each file its objects and their faults out, as JSON.

Objects are held against the schemas of that version, those of the Prometheus operator against its types. An unknown
field is a fault.
"""

import json
import sys

import kubernetes_validate
import yaml


def fault(thing, version):
    try:
        if thing["apiVersion"].startswith("monitoring.coreos.com/"):
            # A large module, which most do not need.
            from cloudcoil.models.prometheus_operator import v1 as operator

            getattr(operator, thing["kind"]).model_validate(thing, extra="forbid")
        else:
            kubernetes_validate.validate(thing, version, strict=True)
    except Exception as refused:
        # One of them goes on with the whole schema after an empty line.
        return f"{version} {thing['kind']} {thing['metadata']['name']}: {refused}".split("\n\n")[0]


def read(version, file):
    with open(file, encoding="utf-8") as text:
        objects = [found for found in yaml.safe_load_all(text) if found]
    faults = [found for thing in objects if (found := fault(thing, version))]
    return {"objects": objects, "faults": faults}


words = sys.argv[1:]
print(json.dumps([read(*pair) for pair in zip(words[::2], words[1::2])]))
