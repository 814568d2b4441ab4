"""The forms of a ParityReport: terminal text, JSON, JUnit XML, Markdown and one HTML page.

Every string in a report is untrusted, since names of layers and messages come from files; each
module escapes them for its own format. The same report always gives the same bytes: no form adds a
time or a path.
"""

from parity_tests.report.files import FORMS, Form, load, render, save
from parity_tests.report.html_page import html
from parity_tests.report.json_document import from_json, to_json
from parity_tests.report.junit_xml import junit
from parity_tests.report.markdown_page import markdown
from parity_tests.report.terminal import show, text

__all__ = [
    "FORMS",
    "Form",
    "from_json",
    "html",
    "junit",
    "load",
    "markdown",
    "render",
    "save",
    "show",
    "text",
    "to_json",
]
