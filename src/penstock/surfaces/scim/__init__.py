"""SCIM: where an identity provider tells of users and groups (RFC 7643, RFC 7644), at `/scim/v2` of the admin listener.

Owns: the paths (`routes`) and the language (`protocol`): schemas, filters, pages, PATCH, how refusals read. The
language is that of the library scim2-models, which is an extra and is loaded with the first request.
Refuses: rules. What is told goes to `control.directory`. Bulk, sorting over several kinds, ETags and nested groups are
not served, and `/ServiceProviderConfig` says so.

Import from the modules (`penstock.surfaces.scim.routes`, ...); this file exports nothing.
"""
