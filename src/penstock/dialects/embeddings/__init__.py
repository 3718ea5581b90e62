"""EMBEDDINGS, in every wire language that has them: text, and at some vendors pictures, for vectors of numbers.

`openai` is what most vendors speak (`/v1/embeddings`), `google` what AI Studio and Vertex do (`embedContent`,
`batchEmbedContents`, `predict`), `cohere` Cohere's (`/v2/embed`, also at Bedrock), `titan` and `nova` Amazon's own
models' at Bedrock. Each reads what a request may cost and what an answer says that it used, and has the codec from and
to `domain.embeddings`, as `codec` describes it. Nothing here is streamed, and nothing has output that is billed.

How a call goes from one of them to another is `dialects.embedded`.
"""
