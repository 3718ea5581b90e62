"""FIDELITY: what of a call survives the way from one dialect to another, feature by feature.

Owns: the features (`features`), the judgement of each on each way (`judge`), and the page that shows it (`page`).
Refuses: opinions. A feature is written in the caller's wire language, read, translated, and read again as the target
would read it; what is not there any more and was not named as dropped is a fault, and the run says so.
"""
