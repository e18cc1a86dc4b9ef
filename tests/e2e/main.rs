//! End-to-end tests: routers as processes, hosts and an underlay in network namespaces, traffic between them,
//! and independent judges (ping, tcpdump, tshark, nft) of what came of it. They need root, and the tools that
//! `scripts/test` installs.
#![allow(clippy::disallowed_methods, reason = "these tests watch the real world, in real time")]
#![allow(unreachable_pub, missing_docs, reason = "nothing outside uses this")]

mod capture;
mod changes;
mod connectivity;
mod dissectors;
mod external;
mod failover;
mod headers;
mod hostile;
mod idle;
mod instances;
mod interworking;
mod judge;
mod mapping_systems;
mod mobility;
mod multihoming;
mod netns;
mod operator;
mod payloads;
mod recovery;
mod restart;
mod router;
mod scan;
mod segments;
mod sharing;
mod simulation;
mod sync;
mod topology;
mod traffic;
mod vrrp;
mod wait;
