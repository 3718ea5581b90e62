"""What libraries bring and nothing here uses is not loaded, and is there for whoever asks for it later."""

import subprocess
import sys


def _says(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_engine_works_without_what_is_spared() -> None:
    script = """
import asyncio, sys
from penstock.app.control.spared import spared
with spared():
    import sqlalchemy.ext.asyncio as aio
from sqlalchemy import text
async def main():
    engine = aio.create_async_engine("sqlite+aiosqlite://")
    async with engine.connect() as connection:
        print((await connection.execute(text("select 6 * 7"))).scalar_one(), "sqlalchemy.orm" in sys.modules)
    await engine.dispose()
asyncio.run(main())
"""
    assert _says(script) == "42 False"


def test_what_was_spared_can_be_had_afterwards() -> None:
    script = """
from penstock.app.control.spared import spared
with spared():
    import genai_prices, structlog, sqlalchemy.ext.asyncio
from genai_prices.update_prices import UpdatePrices
from sqlalchemy.ext.asyncio.session import AsyncSession
import rich
print(UpdatePrices.__name__, AsyncSession.__name__, rich.__name__)
"""
    assert _says(script) == "UpdatePrices AsyncSession rich"


def test_what_is_late_is_there_for_whoever_uses_it() -> None:
    script = """
import sys
from penstock.app.control.spared import spared
with spared():
    import sqlalchemy.dialects.postgresql as dialects
    import psycopg
late = {"importlib.metadata", "sqlalchemy.dialects.postgresql.asyncpg"}
print(late & sys.modules.keys())
import importlib, sqlalchemy.util.compat
print(len(sqlalchemy.util.compat.importlib_metadata_get("console_scripts")) > 0)
print(dialects.asyncpg.dialect.driver)
print(importlib.metadata.version("psycopg") == psycopg.__version__, len(late & sys.modules.keys()))
"""
    assert _says(script) == "set()\nTrue\nasyncpg\nTrue 2"


def test_a_package_that_no_folder_names_is_looked_up_in_full() -> None:
    script = """
from penstock.app.control.spared import spared
with spared():
    from importlib import metadata
    try:
        metadata.version("nobody-has-this")
    except metadata.PackageNotFoundError as error:
        print(error.name)
"""
    assert _says(script) == "nobody-has-this"


def test_what_is_loaded_already_stays_as_it_is() -> None:
    script = """
import rich, genai_prices.update_prices as before, sys
from penstock.app.control.spared import spared
with spared():
    import genai_prices
print(sys.modules["genai_prices.update_prices"] is before, sys.modules["rich"] is rich)
"""
    assert _says(script) == "True True"


def test_what_is_not_named_is_there_meanwhile() -> None:
    script = """
from penstock.app.control.spared import PRICE_UPDATES, spared
with spared([PRICE_UPDATES]):
    import email_validator, genai_prices, rich, sys
    print(PRICE_UPDATES in sys.modules, "httpx" in sys.modules)
print(PRICE_UPDATES in sys.modules)
"""
    assert _says(script) == "True False\nFalse"


def test_the_admin_surface_is_put_together_without_what_is_spared_and_tells_its_shapes_all_the_same() -> None:
    script = """
import sys
from penstock.app.control.spared import spared, worked_out_late
with spared(), worked_out_late():
    import fastapi
    from fastapi.openapi.models import OpenAPI
    before = OpenAPI.__pydantic_complete__
    application = fastapi.FastAPI()
    @application.get("/number")
    def number(of: int = 1) -> dict[str, int]: ...
print(before, application.openapi()["paths"]["/number"]["get"]["parameters"][0]["schema"]["type"])
print({"email_validator", "pydantic.v1"} & sys.modules.keys())
from pydantic import BaseModel
class Later(BaseModel):
    number: int
print(Later.__pydantic_complete__)
"""
    assert _says(script) == "False integer\nset()\nTrue"


def test_what_only_administrators_need_is_not_loaded_before_calls_are_admitted() -> None:
    later = {"alembic", "argon2", "cryptography", "fastapi", "genai_prices", "prometheus_client"}
    later |= {"importlib.metadata", "sqlalchemy.dialects.sqlite", "sqlalchemy.orm", "structlog.dev"}
    script = f"import sys, penstock.app.control.__main__; print({later!r} & sys.modules.keys())"
    assert _says(script) == "set()"
