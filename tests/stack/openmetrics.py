"""The agent's /metrics in; one JSON line a sample out, as the reference parser of OpenMetrics reads the page.

Usage: openmetrics.py URL
"""

import json
import sys
from urllib.request import Request
from urllib.request import urlopen

from prometheus_client.openmetrics.parser import text_string_to_metric_families

ACCEPT = "application/openmetrics-text; version=1.0.0"


def main() -> None:
    with urlopen(Request(sys.argv[1], headers={"Accept": ACCEPT}), timeout=10) as answer:
        if not answer.headers["Content-Type"].startswith("application/openmetrics-text"):
            sys.exit(f"not OpenMetrics: {answer.headers['Content-Type']}")
        page = answer.read().decode()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            exemplar = sample.exemplar and {"labels": sample.exemplar.labels, "value": sample.exemplar.value}
            line = {"name": sample.name, "labels": sample.labels, "value": sample.value, "exemplar": exemplar}
            print(json.dumps(line))


if __name__ == "__main__":
    main()
