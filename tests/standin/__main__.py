"""Command line in; the stand-in engine, the load client or a check of its messages out."""

import os
import sys
from pathlib import Path

COMMANDS = "serve | load | selfcheck | recorded"


def main() -> int:
    command, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if command == "serve":
        # The process must look like `vllm serve`, so it becomes that program.
        script = Path(__file__).parent / "bin" / "vllm"
        os.execv(sys.executable, [sys.executable, str(script), "serve", *arguments])
    if command == "load":
        from standin import load

        return load.main(arguments)
    if command == "selfcheck":
        from standin import selfcheck

        return selfcheck.main()
    if command == "recorded":
        from standin import recorded

        return recorded.main(arguments)
    print(f"usage: python -m standin {COMMANDS}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
