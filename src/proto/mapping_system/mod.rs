//! The mapping system: Map-Server and Map-Resolver.
