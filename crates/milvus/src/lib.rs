//! Milvus knowledge: its keys, the objects that they reference, coherence, what a restore changes.
//!
//! Values in, values out: no network, no clock, and nothing here deletes anything.
