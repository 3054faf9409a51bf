"""What the documentation needs beyond Markdown: reference pages made from the code.

`reference` writes Markdown from the package itself, `hooks` puts it into the site, and
tests/docs checks it and runs the code blocks of the pages.
"""
