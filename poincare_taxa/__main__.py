"""``python -m poincare_taxa`` is the command ``poincare-taxa``."""

from poincare_taxa.cli import main

if __name__ == "__main__":
    main()
