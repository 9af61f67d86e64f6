"""``python -m qinspect``."""

from qinspect.cli import main

main()
