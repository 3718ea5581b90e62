"""Teams, projects, users, providers, models: names, references, origins, pages, audit."""

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import update

from penstock.control import audit, keys, limits, models, nouns, projects, providers, teams, users
from penstock.control.paging import Page
from penstock.errors import Conflict, ControlError, Declared, InvalidNoun, NotFoundNoun
from penstock.store.tables import control as tables
from unit_control import PEPPER, Plane
