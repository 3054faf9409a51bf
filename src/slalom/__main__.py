"""`python -m slalom` is the `slalom` program.

Owns nothing but that; the program is `slalom.cli`.
"""

from slalom.cli import main

if __name__ == "__main__":
    main()
