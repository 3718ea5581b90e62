"""What the control process is made of, without its two sides: the store, the picture that is published, the vault, and
the way of the journals into the store.

Workers and other boxes meet these through `peers`, administrators through `administration`.
"""

import time
from collections.abc import Sequence

import structlog
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.app.control.activity import Activity
from penstock.app.control.bootstrap import Options, Secrets, box_of, root_wrapper
from penstock.app.control.commits import Committed, Drain
from penstock.app.control.prices import Prices
from penstock.app.control.selfcheck import SelfCheck
from penstock.app.control.signers import Signers
from penstock.config.settings import Config
from penstock.control import installation
from penstock.control.configuration import Configuration
from penstock.control.credentials import DeclaredCredentials
from penstock.control.door import Door
from penstock.control.installation import Agreed
from penstock.control.publisher import Publisher, Sources
from penstock.control.rotations import Rotations
from penstock.control.vault import Values, Vault
from penstock.domain.events import UsageEvent
from penstock.ledger.committer import Alert, Committer, Watch
from penstock.records.events import write_events
from penstock.records.log import LineWriter, exchange_lines
from penstock.records.metrics import Metrics
from penstock.store.claim import claim_on
from penstock.store.engine import committer_engine, control_engine, database_url
from penstock.upstream.http1 import Http1Transport, TransportSettings
from penstock.vault.wrappers import wrappers_of

log = structlog.get_logger()


class Parts:
    """Made before the store has been asked anything; `agree` makes what depends on its answer."""

    agreed: Agreed
    configuration: Configuration

    def __init__(self, options: Options, config: Config, secrets: Secrets, lines: LineWriter) -> None:
        self.options = options
        self.config = config
        self.secrets = secrets
        self._lines = lines
        self.started_at = time.time_ns()
        self.metrics = Metrics()
        self.transport = Http1Transport(TransportSettings(ca_file=config.upstream.ca_bundle or None))
        self._make_store()
        self._make_picture()
        self._make_ledger()

    def _make_store(self) -> None:
        url = database_url(self.config.store, self.options.data)
        self.box = box_of(self.options.data, shares_store=url.get_backend_name() != "sqlite")
        self.engine = control_engine(url)
        self.ledger_engine = committer_engine(url)
        self.claim = claim_on(url, self.box)
        self.claim.guard(self.engine.sync_engine)
        self.claim.guard(self.ledger_engine)

    def _make_picture(self) -> None:
        config = self.config
        self._declared = DeclaredCredentials(config.providers)
        opened = Values()
        self.signers = Signers(config.identity, self.transport, self._renew_trust)
        self.prices = Prices(file=self.options.data / "prices")
        sources = Sources(
            self.prices.resolve, self._declared, opened, config.server_settings(), trust=self.signers.trust
        )
        self.publisher = Publisher(sources)
        self.door = Door(self.engine, self.publisher, require_store=self.claim.require)
        wrappers = wrappers_of(config.vault, root_wrapper(self.secrets.root))
        self.vault = Vault(self.door, opened, wrappers, config.vault.wrapper, self.box.node)
        self.rotations = Rotations(self.door, self.vault, config.vault.rotations, self.metrics.failed)

    def _make_ledger(self) -> None:
        self._committed = Committed(self.ledger_engine, self._on_committed)
        self.committer = Committer(
            self.ledger_engine,
            self.options.data / "journals",
            self._on_events,
            Watch(lambda: self.publisher.snapshot.limits, self.on_alert),
            box=self.box.id,
        )
        self.activity = Activity(self.engine)
        self.self_check = SelfCheck(self.ledger_engine, self.metrics)
        self.drain = Drain(self.committer, self.metrics.failed)

    async def agree(self, conn: AsyncConnection) -> None:
        """Learns from the store under which root secret it is. Raises ControlError where that is another."""
        self.agreed = await installation.agree(conn, self.secrets.root, self.box.id)
        self.configuration = Configuration(self.door, self._declared, self.config, self.box.node, self.agreed.pepper)

    async def close(self) -> None:
        await self.transport.close()
        await self.committer.close()
        await self.engine.dispose()
        self.ledger_engine.dispose()
        await self.claim.release()

    async def _renew_trust(self) -> None:
        await self.door.renew_trust()

    async def drain_confirmed(self) -> int:
        """`Drain.now` where the store is there; StoreDown where it is not, instead of waiting for it."""
        self.claim.require()
        return await self.drain.now()

    def _on_events(self, connection: Connection, events: Sequence[UsageEvent]) -> None:
        write_events(connection, events)
        self._committed.stage(connection, events)

    def _on_committed(self, events: Sequence[UsageEvent]) -> None:
        self.metrics.observe(events)
        self.activity.note(events)
        if lines := exchange_lines(events, self.options.log_level):
            self._lines.write(lines)

    def on_alert(self, alert: Alert) -> None:
        self.metrics.alerted(alert.limit.name, alert.fraction)
        log.warning(
            "a limit has crossed its mark",
            limit=alert.limit.name,
            fraction=alert.fraction,
            value=alert.value,
            settled=alert.settled,
            amount=alert.limit.amount,
            unit=alert.limit.unit,
        )
