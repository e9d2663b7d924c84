"""New plugin projects from the templates of each kind: what `pilot-core new` does, without cookiecutter.

The templates are cookiecutter's (`templates/KIND/` of the checkout), and cookiecutter makes the same bytes of them.
"""

from __future__ import annotations

from pilot_core.scaffold.names import check_answers, check_free
from pilot_core.scaffold.origin import CoreOrigin, core_origin
from pilot_core.scaffold.templates import Question, Template, template_of, templates_directory
from pilot_core.scaffold.writing import write_project

__all__ = [
    "CoreOrigin",
    "Question",
    "Template",
    "check_answers",
    "check_free",
    "core_origin",
    "template_of",
    "templates_directory",
    "write_project",
]
