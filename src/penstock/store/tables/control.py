"""The tables of the control plane: one per noun, the kills, the versions of the declared file, the audit log.

Times are Unix nanoseconds. Secrets are in none of them: a virtual key is its digest, a provider's credentials
are names, and what the vault keeps of them lies sealed in its own tables.
`origin` is `file` for what the configuration file declares and `api` for the rest.
"""

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, Table, Text

from penstock.store.tables.schema import AUTOINCREMENT, metadata

NAME = String(256)


def _provenance() -> list[Column[object]]:
    return [
        Column("origin", String(8), nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("created_by", String(128), nullable=False),
        Column("updated_at", BigInteger, nullable=False),
    ]


organisations = Table("organisations", metadata, Column("name", NAME, primary_key=True), *_provenance())

teams = Table(
    "teams",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("organisation", NAME, nullable=False, server_default="default", index=True),
    Column("required_tags", JSON, nullable=False),
    Column("tags_from", JSON, nullable=False, server_default="{}", doc="required tag -> attribute of the key"),
    *_provenance(),
)

projects = Table(
    "projects",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("team", NAME, nullable=False, index=True),
    Column("environment", NAME, nullable=False),
    *_provenance(),
)

users = Table(
    "users",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("kind", String(16), nullable=False, server_default="person", doc="person, service"),
    Column("active", Integer, nullable=False, server_default="1", doc="1, or 0: may not sign in, its keys are stopped"),
    Column("stopped_by", Integer, doc="the kill that stops the keys of one who is not active"),
    *_provenance(),
)

bindings = Table(
    "bindings",
    metadata,
    Column("name", String(40), primary_key=True, doc="its id"),
    Column("subject_kind", String(8), nullable=False, doc="user, group"),
    Column("subject", NAME, nullable=False),
    Column("role", String(16), nullable=False),
    Column("scope_kind", String(16), nullable=False, doc="organisation, teams_of, team, project"),
    Column("scope", NAME, nullable=False),
    *_provenance(),
)
Index("ix_bindings_subject", bindings.c.subject_kind, bindings.c.subject)

admin_tokens = Table(
    "admin_tokens",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("user", NAME, nullable=False, index=True, doc="whose it is; empty: an identity provider's"),
    Column("purpose", String(16), nullable=False, doc="admin, provisioning"),
    Column("digest", String(64), nullable=False, unique=True),
    Column("prefix", String(16), nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    *_provenance(),
)

NO_SECRET = "none:"  # noqa: S105 - it is the opposite
"""What the digest of a key begins with that has no secret. Its id follows, so that each is another."""

keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("prefix", String(16), nullable=False),
    Column("team", NAME, nullable=False, index=True),
    Column("project", NAME, nullable=False, index=True),
    Column("user", NAME, nullable=False, index=True),
    Column("models", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("allowed_tags", JSON, nullable=False, server_default="{}"),
    Column("surfaces", JSON, nullable=False, server_default="[]"),
    Column("allowed_cidrs", JSON, nullable=False, server_default="[]"),
    Column("parent", NAME, nullable=False, server_default="", index=True),
    Column("old_digest", String(64), nullable=False, server_default="", index=True),
    Column("old_until", BigInteger, nullable=False, server_default="0", doc="until then the old secret opens it too"),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    *_provenance(),
)

key_activity = Table(
    "key_activity",
    metadata,
    Column("key", NAME, primary_key=True),
    Column("last_used_at", BigInteger, nullable=False),
)

providers = Table(
    "providers",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("base_url", Text, nullable=False),
    Column("credentials", JSON, nullable=False),
    Column("credential_terms", JSON, nullable=False, server_default="{}", doc="name -> its entry in the vault, weight"),
    Column("timeouts", JSON, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("options", JSON, nullable=False),
    *_provenance(),
)

credentials = Table(
    "credentials",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("kind", String(32), nullable=False, doc="the kind of provider that it is for"),
    Column("address", String(512), nullable=False, doc="the origin that it is sent to; empty: the vendor's own"),
    Column("team", NAME, nullable=False, doc="whose calls it serves; empty: everybody's"),
    Column("rotate_every", Integer, doc="seconds"),
    Column("version", Integer, nullable=False, doc="the newest"),
    Column("rotated_at", BigInteger, nullable=False, doc="when the newest version came"),
    Column("active_from", BigInteger, nullable=False, doc="when the newest version serves"),
    *_provenance(),
)
"""The entries of the vault; their values are in its own tables."""

models = Table(
    "models",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("body", JSON, nullable=False),
    *_provenance(),
)

limits = Table(
    "limits",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("match", JSON, nullable=False),
    Column("each", NAME),
    Column("unit", String(16), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("per", String(8), nullable=False),
    Column("mode", String(8), nullable=False),
    Column("alert_at", JSON, nullable=False),
    Column("timezone", String(64), nullable=False, server_default="UTC"),
    Column("window", String(8), nullable=False, server_default="fixed"),
    Column("max_values", Integer, nullable=False, server_default="100000", doc="balances per window of an `each`"),
    Column("raises", JSON, nullable=False, server_default="[]", doc="temporary increases, until they are over"),
    Column(
        "downgrade", NAME, nullable=False, server_default="", doc="the model that takes over; empty: calls are refused"
    ),
    Column(
        "level", String(16), nullable=False, server_default="organisation", doc="how wide the rights are that set it"
    ),
    *_provenance(),
)

kills = Table(
    "kills",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=True),
    Column("scope", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", String(128), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("lifted_at", BigInteger),
    Column("lifted_by", String(128)),
    Column("lift_reason", Text),
    info=AUTOINCREMENT,
)
Index("ix_kills_in_force", kills.c.lifted_at)

config_versions = Table(
    "config_versions",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=True),
    Column("digest", String(64), nullable=False, index=True),
    Column("node", String(128), nullable=False),
    Column("applied_at", BigInteger, nullable=False),
    Column("changes", JSON, nullable=False),
    Column("how", String(16), nullable=False, server_default="serve", doc="serve, apply, rollback"),
    Column("by", String(128), nullable=False, server_default=""),
    Column("restores", Integer, doc="the version that this one went back to"),
    Column("content", Text, doc="JSON: what the file declared; of a version of an older release there is none"),
    info=AUTOINCREMENT,
)

prices = Table(
    "prices",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("provider", NAME, nullable=False),
    Column("model", NAME, nullable=False),
    Column("effective_from", BigInteger, nullable=False),
    Column("price", JSON, doc="meter -> decimal text, USD; none: the catalogue's again"),
    Column("note", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String(128), nullable=False),
    info=AUTOINCREMENT,
)
"""The price book. Rows are added and never changed: what a receipt names stays to be looked up."""
Index("ix_prices_of_a_model", prices.c.provider, prices.c.model, prices.c.effective_from)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(16), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", NAME, nullable=False),
    Column("before", JSON),
    Column("after", JSON),
    Column("actor_kind", String(16), nullable=False, server_default=""),
    Column("address", String(64), nullable=False, server_default=""),
    Column("request_id", String(64), nullable=False, server_default=""),
    Column("team", NAME, nullable=False, server_default="", doc="whose object it is about; empty: the organisation's"),
    Column("project", NAME, nullable=False, server_default=""),
    Column("organisation", NAME, nullable=False, server_default="", doc="whose object it is, where it is no team's"),
    info=AUTOINCREMENT,
)
Index("ix_audit_object", audit.c.kind, audit.c.name)
Index("ix_audit_tenant", audit.c.team, audit.c.project)

replays = Table(
    "replays",
    metadata,
    Column("actor", String(128), primary_key=True),
    Column("name", String(64), primary_key=True, doc="digest of the Idempotency-Key"),
    Column("content", String(64), nullable=False, doc="keyed digest of the request's path and body"),
    Column("answer", JSON, nullable=False, doc="without what is shown once"),
    Column("at", BigInteger, nullable=False, index=True),
)
