"""What every table of the configuration is made from."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from connectors.api import secret_reference

SecretReference = Annotated[str, AfterValidator(secret_reference)]


class Section(BaseModel):
    """A table of the configuration: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
