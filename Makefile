.PHONY: setup
setup:
	@tools/setup.sh .venv requirements/dev.txt --editable
