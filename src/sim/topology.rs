//! Who is linked to whom, and the way from each to each: static shortest paths, as of a network without
//! faults.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// A node, by its place in the scenario.
pub type NodeId = u32;
/// A link, by its place in the scenario.
pub type LinkId = u32;

/// What passes on packets that are not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transit {
    /// A core router: those of the underlay.
    Underlay,
    /// A switch: those of a site.
    Lan,
    /// Nobody else's.
    None,
}

/// What the way depends on.
#[derive(Debug)]
pub(super) struct Topology {
    /// What each node passes on.
    nodes: Vec<Transit>,
    /// The links of each node, with their other ends and their lengths.
    links: Vec<Vec<(LinkId, NodeId, u64)>>,
    /// For each destination that was asked for, through the underlay and through a LAN: the link by which
    /// each node reaches it.
    routes: [Vec<Option<Box<[LinkId]>>>; 2],
}

const NO_LINK: LinkId = LinkId::MAX;
/// A node with more links than this looks into the table at once.
const NEIGHBOURS: usize = 4;

impl Topology {
    /// `nodes` says of each what it passes on.
    pub(super) fn new(nodes: Vec<Transit>, links: impl Iterator<Item = (NodeId, NodeId, Duration)>) -> Self {
        let mut at: Vec<Vec<_>> = vec![Vec::new(); nodes.len()];
        for (id, (a, b, delay)) in (0..).zip(links) {
            // One more for each hop, so that of equally long ways the one with fewer hops is taken.
            let length = (delay.as_nanos() as u64).saturating_add(1);
            for (from, to) in [(a, b), (b, a)] {
                if let Some(list) = at.get_mut(from as usize) {
                    list.push((id, to, length));
                }
            }
        }
        Self { routes: [(); 2].map(|()| vec![None; nodes.len()]), nodes, links: at }
    }

    /// The links of a node, with their other ends.
    pub(super) fn links_of(&self, node: NodeId) -> impl Iterator<Item = (LinkId, NodeId)> {
        self.links.get(node as usize).into_iter().flatten().map(|(link, other, _)| (*link, *other))
    }

    /// The link that a packet at `node` takes to come to `destination` through that part of the network.
    pub(super) fn next(&mut self, node: NodeId, destination: NodeId, through: Transit) -> Option<LinkId> {
        if let Some(link) = self.obvious(node, destination, through) {
            return Some(link);
        }
        let part = usize::from(through == Transit::Lan);
        let slot = |routes: &Self| {
            routes
                .routes
                .get(part)?
                .get(destination as usize)?
                .as_ref()
                .map(|r| r.get(node as usize).copied())
        };
        let link = match slot(self) {
            Some(link) => link,
            None => {
                let routes = self.ways_to(destination, through);
                *self.routes.get_mut(part)?.get_mut(destination as usize)? = Some(routes);
                slot(self)?
            }
        };
        link.filter(|link| *link != NO_LINK)
    }

    /// The next link where there is no choice, which spares a look into a large table: the only one, the only
    /// one to a node that passes packets on, or the only one to the destination where no neighbour passes any
    /// on. Whether there is a way at all may show further on.
    fn obvious(&self, node: NodeId, destination: NodeId, through: Transit) -> Option<LinkId> {
        let links = self.links.get(node as usize)?;
        if let [(link, ..)] = links.as_slice() {
            return Some(*link);
        }
        let (mut onwards, mut there) = ((0, None), (0, None));
        for (link, other, _) in links.iter().take(NEIGHBOURS) {
            let found = if *other == destination { &mut there } else { &mut onwards };
            if *other == destination || self.nodes.get(*other as usize) == Some(&through) {
                *found = (found.0 + 1, Some(*link));
            }
        }
        match (onwards, there) {
            ((1, link), (0, _)) | ((0, _), (1, link)) if links.len() <= NEIGHBOURS => link,
            _ => None,
        }
    }

    /// Dijkstra from the destination outwards. Among equally long ways, the nodes' order decides.
    fn ways_to(&self, destination: NodeId, through: Transit) -> Box<[LinkId]> {
        let mut by = vec![NO_LINK; self.nodes.len()].into_boxed_slice();
        let mut length = vec![u64::MAX; self.nodes.len()];
        let mut edge = BinaryHeap::from([Reverse((0_u64, destination))]);
        if let Some(start) = length.get_mut(destination as usize) {
            *start = 0;
        }
        while let Some(Reverse((far, node))) = edge.pop() {
            let passes = self.nodes.get(node as usize).is_some_and(|transit| *transit == through);
            if length.get(node as usize).is_none_or(|known| far > *known) || node != destination && !passes {
                continue;
            }
            for &(link, next, step) in self.links.get(node as usize).into_iter().flatten() {
                let far = far.saturating_add(step);
                if let (Some(known), Some(by)) = (length.get_mut(next as usize), by.get_mut(next as usize))
                    && far < *known
                {
                    *known = far;
                    *by = link;
                    edge.push(Reverse((far, next)));
                }
            }
        }
        by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_the_shortest_and_keep_to_their_part_of_the_network() {
        use Transit::{Lan, Underlay};
        // 0 and 1: core routers. 2, 3: tunnel routers. 4: the switch of their site. 5: a host on it.
        let nodes = vec![Underlay, Underlay, Transit::None, Transit::None, Lan, Transit::None];
        let ms = Duration::from_millis;
        let links = [
            (0, 1, ms(10)),
            (2, 0, ms(1)),
            (3, 1, ms(1)),
            (2, 4, ms(1)),
            (3, 4, ms(1)),
            (5, 4, ms(1)),
            (2, 1, ms(5)),
        ];
        let mut topology = Topology::new(nodes, links.into_iter());
        let mut next = |from, to| topology.next(from, to, Underlay);
        assert_eq!(next(2, 3), Some(6), "not through the site's switch, nor the longer way by router 0");
        assert_eq!((next(1, 3), next(3, 2), next(1, 2)), (Some(2), Some(2), Some(6)));
        let mut next = |from, to| topology.next(from, to, Lan);
        assert_eq!((next(2, 5), next(4, 5), next(5, 2)), (Some(3), Some(5), Some(5)));
        assert_eq!(next(0, 5), None, "routers reach no host");
        assert_eq!(topology.links_of(5).collect::<Vec<_>>(), [(5, 4)]);
    }
}
