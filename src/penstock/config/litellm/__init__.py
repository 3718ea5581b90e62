"""LITELLM: a LiteLLM proxy's `config.yaml` becomes a Penstock file, and a list of what could not be carried.

Owns: what that format means (`vendors`: which of its prefixes are which provider; `quantities`: its durations, prices
and budgets; `convert`: the whole). Pure: text in, a document and notes out.
Refuses: guessing and copying secrets. What has no counterpart is a note with its place; a key that stands in the file
becomes a reference to a variable that the operator sets.

Source: the "Config.yaml" and "All settings" pages of the LiteLLM proxy's documentation.
"""
