//! Prompt to embedding, and prompt to the embedding of the picture it would produce.
