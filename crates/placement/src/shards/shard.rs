//! One shard: a cluster of its own nodes that takes orders and answers.
//!
//! Does not know other shards, but for what orders say of them. An order that means nothing here is answered
//! with [`Answer::Confused`] if it asks, and left alone if not.

use super::telling::{Last, cell_of, facts_of, scan};
use super::words::{Answer, OnNode, Order, Reply, Request, Run, Stands, Take};
use super::{sums, words::Bars, words::Looked};
use crate::class::Class;
use crate::cluster::{ASSUMED, ClassId, Cluster, Config, Nomination};
use crate::company::Look;
use crate::fleet::ABSENT;
use crate::objects::PodSpec;
use crate::pick::{Counting, why_not};
use crate::profile::Profile;
use crate::volumes::{Against, VolumeBits, with_bits};
use hashbrown::HashMap;
use std::sync::Arc;

/// See the module's head.
#[derive(Debug)]
pub struct Shard {
    pub(crate) cluster: Cluster,
    /// By the coordinator's number.
    pub(crate) classes: HashMap<u32, Last>,
    kinds: HashMap<u32, u32>,
}

impl Shard {
    /// An empty shard. Seed and profiles must be the coordinator's.
    pub fn new(config: Config) -> Shard {
        // Classes come and go as the coordinator says.
        let config = Config {
            classes_max: usize::MAX,
            ..config
        };
        let mut cluster = Cluster::new(config);
        cluster.expect_others();
        Shard {
            cluster,
            classes: HashMap::new(),
            kinds: HashMap::new(),
        }
    }

    /// Carries an order out; there is an answer if it asks for one.
    pub fn take(&mut self, request: Request) -> Option<Reply> {
        let asks = request.asks();
        let answer = self.carry_out(request.0);
        asks.then(|| Reply(answer.unwrap_or(Answer::Confused)))
    }

    /// Nodes and pods here.
    pub fn sizes(&self) -> (usize, usize) {
        (self.cluster.nodes(), self.cluster.pods())
    }

    /// Rules of the profile with that number.
    pub fn profile(&self, number: u16) -> Arc<Profile> {
        self.cluster.profile(number)
    }

    fn carry_out(&mut self, order: Order) -> Option<Answer> {
        let cluster = &mut self.cluster;
        match order {
            Order::Node(info) => {
                cluster.upsert_node(&info);
            }
            Order::RemoveNode(name) => {
                cluster.remove_node(&name);
            }
            Order::Kind(number, spec, deleting) => self.learn_kind(number, &spec, deleting),
            Order::DropKind(number) => self.drop_kind(number),
            Order::Pod(pod) => self.put(&pod),
            Order::RemovePod(key) => {
                cluster.remove_pod(key);
            }
            Order::Claim(claim) => {
                if !claim.add {
                    cluster.withdraw_nomination(claim.pod);
                } else if let Some(&kind) = self.kinds.get(&claim.kind) {
                    let nomination = Nomination {
                        node: cluster.fleet.find_or_add(&claim.node),
                        kind,
                        priority: claim.priority,
                    };
                    cluster.put_in_view(claim.pod, nomination);
                }
            }
            Order::Namespace(name, Some(labels)) => {
                cluster.upsert_namespace(&name, labels);
            }
            Order::Namespace(name, None) => cluster.remove_namespace(&name),
            Order::Maker(kind, namespace, name, selector) => {
                cluster.note_maker(kind, &namespace, &name, &selector);
            }
            Order::Budget(budget) => cluster.upsert_budget(budget),
            Order::RemoveBudget(namespace, name) => cluster.remove_budget(&namespace, &name),
            Order::Term(number, role, term) => cluster.hold_term(number, role, term),
            Order::DropTerm(number) => cluster.release_term(number),
            Order::Host(host, true) => cluster.fleet.spell_elsewhere(&host),
            Order::Host(host, false) => cluster.fleet.unspell_elsewhere(&host),
            Order::Class(number, spec) => {
                self.drop_class(number);
                let id = self.cluster.class_of(&spec);
                self.cluster.retain_class(id);
                self.classes.insert(number, Last::new(id));
            }
            Order::Evicting(pods) => cluster.note_evictions(&pods),
            Order::Spare(node) => {
                if let Some(node) = cluster.fleet.node(&node) {
                    cluster.spare(node);
                }
            }
            Order::Survey(class) => return self.tell(class).map(Answer::Told),
            Order::Take(take) => return self.take_one(&take),
            Order::Run(run) => return self.run(&run),
            Order::Count(class, cells) => {
                let (class, cluster) = (self.id(class)?, &mut self.cluster);
                let mut current = cluster.take_class(class)?;
                let before = current.entries();
                let nodes = current.nodes_in(&mut cluster.fleet, &cells);
                cluster.index_entries = cluster.index_entries + current.entries() - before;
                cluster.put_back(class, current);
                return Some(Answer::Number(nodes));
            }
            Order::Where(class, node, look, bits) => {
                return self.stands(class, &node, &look, bits);
            }
            Order::Reasons(class, look, bars) => {
                let against = self.against(&bars);
                return self.with_class(class, &look, |cluster, class, look| {
                    let mut counting = Counting::default();
                    for group in cluster.groups(class, look, &against, None) {
                        let nodes = group.nodes as usize;
                        counting.count_group(&cluster.fleet, class, group.why, group.state, nodes);
                    }
                    Answer::Rejected(counting.finish(&cluster.fleet))
                });
            }
            Order::Scan(class) => {
                let id = self.id(class)?;
                return scan(&mut self.cluster, id, &Against::default()).map(Answer::Told);
            }
            Order::Sift(class, barred) => {
                let id = self.id(class)?;
                return self.cluster.sift(id, &barred).map(Answer::Told);
            }
            Order::Draw(class, barred, cell, room, nth) => {
                let id = self.id(class)?;
                let drawn = self.cluster.draw(id, &barred, (cell, room, nth));
                return Some(Answer::Named(drawn));
            }
            Order::Potential(class, pin, look, bars) => {
                let against = self.against(&bars);
                return self.with_class(class, &look, |cluster, class, look| {
                    let potential = cluster.potential_nodes(class, look, &against, pin.as_deref());
                    Answer::Number(potential.total(cluster) as u64)
                });
            }
            Order::TryOut(order) => {
                let mut against = self.against(&order.bars);
                for (name, holding) in &order.holding {
                    if let Some(node) = self.cluster.fleet.node(name) {
                        against.holding.insert(node, holding.clone());
                    }
                }
                return self.with_class(order.class, &order.look, |cluster, class, look| {
                    cluster.try_all(class, look, &against, &order)
                });
            }
            Order::Waits(class, node, look, bits) => {
                return self.with_class(class, &look, |cluster, class, look| {
                    Answer::Number(u64::from(cluster.waits_on(class, look, &node, bits)))
                });
            }
        }
        None
    }

    fn against(&self, bars: &Bars) -> Against {
        let bars = bars.as_ref();
        bars.map_or_else(Against::default, |bars| bars.against(&self.cluster))
    }

    fn id(&self, class: u32) -> Option<ClassId> {
        self.classes.get(&class).map(|last| last.id)
    }

    /// Does something with a class and the sums over all shards.
    fn with_class(
        &mut self,
        class: u32,
        look: &Looked,
        what: impl FnOnce(&mut Cluster, &mut Class, &Look) -> Answer,
    ) -> Option<Answer> {
        let (id, cluster) = (self.id(class)?, &mut self.cluster);
        let mut current = cluster.take_class(id)?;
        let look = match look {
            Some(part) => {
                let part = sums::in_words(part, &cluster.fleet);
                part.look(&current.company, &cluster.hashing)
            }
            None => Look::default(),
        };
        let answer = what(cluster, &mut current, &look);
        cluster.put_back(id, current);
        Some(answer)
    }

    // ---- told

    fn learn_kind(&mut self, number: u32, spec: &PodSpec, deleting: bool) {
        let kind = self.cluster.hold_kind(spec, deleting);
        if let Some(old) = self.kinds.insert(number, kind) {
            self.cluster.release_kind(old);
        }
    }

    fn drop_kind(&mut self, number: u32) {
        if let Some(kind) = self.kinds.remove(&number) {
            self.cluster.release_kind(kind);
        }
    }

    fn put(&mut self, pod: &OnNode) {
        let Some(&kind) = self.kinds.get(&pod.kind) else {
            return;
        };
        let cluster = &mut self.cluster;
        cluster.kinds.hold(kind);
        let node = cluster.fleet.find_or_add(&pod.node);
        let assumed = if pod.assumed { ASSUMED } else { 0 };
        cluster.account(pod.key, node, kind, assumed);
        if !pod.assumed
            && let Some(&slot) = cluster.pods.get(&pod.key)
        {
            let record = &mut cluster.records[slot as usize];
            record.started_micros = pod.started_micros;
            record.name_hash = pod.name_hash;
            // As in one cluster: whatever an older view shows.
            record.preempted |= pod.preempted;
        }
    }

    fn drop_class(&mut self, number: u32) {
        if let Some(last) = self.classes.remove(&number) {
            let cluster = &mut self.cluster;
            cluster.release_class(last.id);
            let kept = cluster.classes.get(last.id.slot as usize);
            // Two numbers may mean one class for a moment.
            if kept.is_some_and(|slot| slot.generation == last.id.generation && slot.retained == 0)
            {
                cluster.drop_class(last.id.slot);
            }
        }
    }

    // ---- asked

    fn tell(&mut self, class: u32) -> Option<super::words::Told> {
        self.classes.get_mut(&class)?.tell(&mut self.cluster)
    }

    fn take_one(&mut self, take: &Take) -> Option<Answer> {
        let last = self.classes.get(&take.class)?;
        let id = last.id;
        if !last.holds(&self.cluster, take.generation) {
            return Some(Answer::Taken(None, self.tell(take.class)?));
        }
        let cluster = &mut self.cluster;
        let mut class = cluster.take_class(id)?;
        let before = class.entries();
        let node = class.nth_top(&mut cluster.fleet, take.cell, take.nth);
        cluster.index_entries = cluster.index_entries + class.entries() - before;
        cluster.put_back(id, class);
        let name = node.and_then(|node| cluster.fleet.node_name(node));
        let name: Option<Box<str>> = name.map(Into::into);
        if let (Some(node), Some(pod)) = (node, take.pod) {
            cluster.assume(pod, id, crate::cluster::NodeId(node));
        }
        Some(Answer::Taken(name, self.tell(take.class)?))
    }

    fn stands(
        &mut self,
        class: u32,
        node: &str,
        look: &Looked,
        bits: VolumeBits,
    ) -> Option<Answer> {
        let Some(node) = self.cluster.fleet.node(node) else {
            return Some(Answer::Stands(Stands::Unknown));
        };
        self.with_class(class, look, |cluster, class, look| {
            let fleet = &cluster.fleet;
            let state = fleet.state_of(node);
            let why = with_bits(why_not(fleet, class, look, state), bits);
            if why.is_none()
                && let Some((cell, room)) = cell_of(class, fleet, state)
            {
                let tallies = class.company.tallies();
                return Answer::Stands(Stands::Feasible {
                    cell,
                    facts: facts_of(class, fleet, cell, &tallies),
                    fit: room.fit,
                    balanced: room.balanced,
                    room: room.room,
                });
            }
            let mut counting = Counting::default();
            counting.count_group(fleet, class, why, state, 1);
            Answer::Stands(Stands::Rejected(counting.finish(fleet)))
        })
    }

    fn run(&mut self, run: &Run) -> Option<Answer> {
        let last = self.classes.get(&run.class)?;
        let id = last.id;
        if !last.holds(&self.cluster, run.generation) {
            return Some(Answer::Ran(Vec::new(), self.tell(run.class)?));
        }
        let placed = self.cluster.run_of(id, run)?;
        let fleet = &self.cluster.fleet;
        let names = placed.iter().filter_map(|&node| fleet.node_name(node));
        let names: Vec<Box<str>> = names.map(Into::into).collect();
        Some(Answer::Ran(names, self.tell(run.class)?))
    }
}

impl Cluster {
    /// Places pods alike while the best is good enough; numbers of the nodes, in order.
    fn run_of(&mut self, id: ClassId, run: &Run) -> Option<Vec<u32>> {
        let totals: HashMap<u32, (i64, bool)> = run
            .totals
            .iter()
            .map(|&(cell, total, critical)| (cell, (total, critical)))
            .collect();
        let mut seed = run.seed;
        let mut random = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let mut placed: Vec<u32> = Vec::new();
        // So many may stay if others place at the same time.
        let mut safe = 0;
        let mut critical: Option<usize> = None;
        for at in 0..=run.pods.len() {
            let mut class = self.take_class(id)?;
            let before = class.entries();
            let best = class.best_of(&mut self.fleet, &|cell| totals.get(&cell).map(|t| t.0));
            let node = best
                .as_ref()
                .and_then(|(best, _)| class.draw(&mut self.fleet, best, &mut random));
            let full = class
                .candidates(&mut self.fleet)
                .iter()
                .filter(|(cell, _)| totals.get(cell).is_some_and(|t| t.1))
                .count();
            self.index_entries = self.index_entries + class.entries() - before;
            self.put_back(id, class);
            let lost = critical.replace(full).is_some_and(|before| full < before);
            let total = best.map_or(i64::MIN, |(_, total)| total);
            if !(run.together && lost) && total <= run.floor {
                safe = at;
            }
            if lost || total < run.floor {
                break;
            }
            let (Some(node), Some(&pod)) = (node, run.pods.get(at)) else {
                break;
            };
            self.assume(pod, id, crate::cluster::NodeId(node));
            placed.push(node);
        }
        if run.together {
            for pod in run.pods.iter().take(placed.len()).skip(safe) {
                self.forget(*pod);
            }
            placed.truncate(safe);
        }
        self.trim(id.slot);
        debug_assert!(
            placed
                .iter()
                .all(|&n| self.fleet.shape_of(self.fleet.state_of(n)) != ABSENT)
        );
        Some(placed)
    }
}
