//! Which path a flow takes.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Path, Stats, Way};
use crate::types::Rloc;

/// A path as the data plane uses it. What many entries share is behind `way`.
#[derive(Clone, Debug)]
pub struct EntryPath {
    /// Where packets go, and from where.
    pub way: Arc<Way>,
    /// Counters.
    pub stats: Arc<Stats>,
}

/// The best-priority paths of an entry, of which each flow takes one in proportion to the weights.
///
/// By weighted rendezvous hashing: every path draws a number from the flow's hash, and the best draw wins.
/// Compared with a ring or table of slots it needs no memory per entry, meets weights exactly in expectation,
/// and when a path goes or a weight changes, no flow moves that need not.
#[derive(Clone, Debug)]
pub struct Choice(Paths);

/// Most entries have one path, which so is in the entry itself.
#[derive(Clone, Debug)]
enum Paths {
    One(EntryPath),
    Several(Arc<[Weighted]>),
}

#[derive(Debug)]
struct Weighted {
    path: EntryPath,
    /// 1 / weight.
    inverse_weight: f32,
}

impl Choice {
    /// Keeps the paths of the best priority that have a share: weight 0 beside non-zero weights gets none,
    /// all weights 0 = even shares (RFC 9301 §5.4). A path whose two addresses differ in family is left out,
    /// since there is no outer header for it.
    pub(super) fn new(paths: Vec<Path>, mut way: impl FnMut(Rloc, Rloc) -> Arc<Way>) -> Self {
        let possible = |p: &&Path| p.rloc.is_ipv4() == p.source.is_ipv4();
        let best = paths.iter().filter(possible).map(|p| p.priority).min();
        let weighted = paths.iter().filter(possible).any(|p| Some(p.priority) == best && p.weight > 0);
        let mut chosen: SmallVec<[Weighted; 4]> = paths
            .into_iter()
            .filter(|p| possible(&p) && Some(p.priority) == best && (p.weight > 0 || !weighted))
            .map(|p| Weighted {
                path: EntryPath { way: way(p.rloc, p.source), stats: p.stats },
                inverse_weight: 1.0 / f32::from(p.weight.max(1)),
            })
            .collect();
        let only = if chosen.len() == 1 { chosen.pop() } else { None };
        Self(match only {
            Some(only) => Paths::One(only.path),
            None => Paths::Several(chosen.into_iter().collect()),
        })
    }

    /// The path of a flow. `None` only if there are none.
    #[inline]
    pub fn path(&self, flow: u64) -> Option<&EntryPath> {
        match &self.0 {
            Paths::One(only) => Some(only),
            Paths::Several(several) => best_draw(several, flow),
        }
    }

    /// All paths that have a share.
    pub fn paths(&self) -> impl Iterator<Item = &EntryPath> {
        let (one, several) = match &self.0 {
            Paths::One(only) => (Some(only), &[][..]),
            Paths::Several(several) => (None, &**several),
        };
        one.into_iter().chain(several.iter().map(|weighted| &weighted.path))
    }
}

impl Weighted {
    /// Exponentially distributed with rate = weight: the smallest of several is each one's in proportion to
    /// its weight.
    fn draw(&self, flow: u64) -> f32 {
        let uniform = ((mix(flow ^ self.path.way.seed) >> 40) as f32 + 0.5) / (1u64 << 24) as f32;
        -uniform.ln() * self.inverse_weight
    }
}

/// Where two draw the same, the address decides and not their order, which may differ between routers.
fn best_draw(several: &[Weighted], flow: u64) -> Option<&EntryPath> {
    let best = several.iter().min_by(|a, b| {
        a.draw(flow).total_cmp(&b.draw(flow)).then_with(|| a.path.way.rloc.cmp(&b.path.way.rloc))
    });
    best.map(|weighted| &weighted.path)
}

/// Depends on the address alone, so that a path's draws are the same before and after any change of the
/// others.
pub(super) fn seed(rloc: &Rloc) -> u64 {
    match rloc {
        IpAddr::V4(a) => mix(u64::from(a.to_bits()) ^ 0x6c69_7370_0000_0004),
        IpAddr::V6(a) => {
            let bits = a.to_bits();
            mix(mix((bits >> 64) as u64 ^ 0x6c69_7370_0000_0006) ^ bits as u64)
        }
    }
}

/// A bijection whose every output bit depends on every input bit: two rounds of multiplication and shift.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(paths: &[(&str, u8, u8)]) -> Choice {
        let paths = paths
            .iter()
            .map(|&(rloc, priority, weight)| Path {
                rloc: rloc.parse().unwrap(),
                source: "192.0.2.1".parse().unwrap(),
                priority,
                weight,
                stats: Arc::default(),
            })
            .collect();
        Choice::new(paths, |rloc, source| Arc::new(Way::new(rloc, source)))
    }

    fn shares(choice: &Choice, flows: u64) -> Vec<(String, f64)> {
        let paths: Vec<_> = choice.paths().collect();
        let mut counts = vec![0u64; paths.len()];
        for flow in 0..flows {
            let path = choice.path(mix(flow)).unwrap();
            counts[paths.iter().position(|&p| std::ptr::eq(p, path)).unwrap()] += 1;
        }
        let share = |(path, &count): (&&EntryPath, &u64)| {
            (path.way.rloc.to_string(), count as f64 * 100.0 / flows as f64)
        };
        paths.iter().zip(&counts).map(share).collect()
    }

    #[test]
    fn flows_split_by_weight() {
        for (a, b) in [(75, 25), (25, 75), (50, 50), (90, 10), (0, 0), (1, 1)] {
            let split = shares(&choice(&[("10.0.0.1", 1, a), ("10.0.0.2", 1, b)]), 10_000);
            let want = if a == b { 50.0 } else { f64::from(a) };
            assert!((split[0].1 - want).abs() < 3.0, "{a}/{b}: {split:?}");
        }
        let split = shares(&choice(&[("10.0.0.1", 1, 60), ("10.0.0.2", 1, 30), ("10.0.0.3", 1, 10)]), 10_000);
        for (share, want) in split.iter().zip([60.0, 30.0, 10.0]) {
            assert!((share.1 - want).abs() < 3.0, "{split:?}");
        }
    }

    #[test]
    fn only_the_best_priority_and_non_zero_weights_carry_traffic() {
        let split = shares(&choice(&[("10.0.0.1", 2, 50), ("10.0.0.2", 1, 0), ("10.0.0.3", 1, 1)]), 1000);
        assert_eq!(split, [("10.0.0.3".to_string(), 100.0)]);
        assert!(choice(&[("2001:db8::1", 1, 100)]).path(7).is_none(), "no outer header joins two families");
        assert!(choice(&[]).path(7).is_none());
    }

    /// Two routers of a site, each with an address of its own, that have learnt the same in another order,
    /// and forgotten other things: whichever of them forwards a flow, it takes the same locator.
    #[test]
    fn routers_of_a_site_choose_alike() {
        use crate::fib::{EntryAction, FibAction, FibUpdate};
        use crate::types::{EidPrefix, InstanceId, Instant};

        let rlocs = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
        let fill = |source: &str, order: &[usize], backwards: bool| {
            let mut fib = crate::fib::new(64);
            for &n in order {
                let prefix: EidPrefix = format!("10.{n}.0.0/16").parse::<ipnet::IpNet>().unwrap().into();
                let mut paths: Vec<Path> = rlocs[..2 + n % 3]
                    .iter()
                    .zip([10, 50, 50, 90])
                    .map(|(rloc, weight)| Path {
                        rloc: rloc.parse().unwrap(),
                        source: source.parse().unwrap(),
                        priority: 1,
                        weight,
                        stats: Arc::default(),
                    })
                    .collect();
                if backwards {
                    paths.reverse();
                }
                fib.apply(FibUpdate::Set {
                    prefix,
                    action: FibAction::Forward(paths),
                    stats: Arc::default(),
                });
                fib.publish();
            }
            fib
        };
        let mut first = fill("192.0.2.1", &(0..40).collect::<Vec<_>>(), false);
        let second = fill("192.0.2.2", &(0..20).rev().collect::<Vec<_>>(), true);
        for n in 20..40 {
            let prefix: EidPrefix = format!("10.{n}.0.0/16").parse::<ipnet::IpNet>().unwrap().into();
            first.apply(FibUpdate::Remove { prefix });
        }
        first.publish();
        let readers = [first.reader(), second.reader()];
        let mut used = std::collections::BTreeSet::new();
        for n in 0..20 {
            let eid: IpAddr = format!("10.{n}.9.9").parse().unwrap();
            for flow in (0..500).map(mix) {
                let chosen = readers.each_ref().map(|reader| {
                    let guard = reader.enter().unwrap();
                    let entry = guard.instance(InstanceId::DEFAULT).unwrap().lookup(&eid).unwrap();
                    let EntryAction::Forward(choice) = &entry.action else { panic!("{eid}") };
                    entry.stats.record(1, 1, Instant::ZERO);
                    choice.path(flow).unwrap().way.rloc
                });
                assert_eq!(chosen[0], chosen[1], "{eid} {flow:x}");
                used.insert(chosen[0]);
            }
        }
        assert_eq!(used.len(), 4);
    }

    #[test]
    fn removing_a_path_moves_its_own_flows_only() {
        let all = [("10.0.0.1", 1, 30), ("10.0.0.2", 1, 30), ("10.0.0.3", 1, 40)];
        let (before, after) = (choice(&all), choice(&[all[2], all[0]]));
        for flow in (0..10_000).map(mix) {
            let (was, is) = (before.path(flow).unwrap().way.rloc, after.path(flow).unwrap().way.rloc);
            assert!(was == is || was == "10.0.0.2".parse::<IpAddr>().unwrap());
        }
    }
}
