//! The search: one claim after the other, one request after the other, one device after the other.
//!
//! ```text
//!   claim ─► request ─► [alternative] ─► device ─► … next device, next request, next claim
//!                                          │ fits? taken? tainted? constraints? counters? capacity?
//!                                          └─► put back, and the next device is tried
//! ```
//!
//! Within a request only combinations are tried, not orders of the same devices. Does not know how what is found is
//! written: that is `write.rs`.

use std::collections::{BTreeMap, HashMap};

use meta::Quantity;

use crate::capacity::{Amounts, consumed, shift, suffices};
use crate::claim::{Claim, Class, Mode, RESULTS_MAX, Wanted};
use crate::constraint::Held;
use crate::inventory::{Inventory, Use};
use crate::node::Node;
use crate::outcome::Allocation;
use crate::pools::{Pool, State, gather};
use crate::selector::{Asked, Selectors};
use crate::slice::Device;
use crate::write::{Picked, write};

/// Steps of one search, a device looked at each: some tens of milliseconds. Upstream ends a search after ten seconds.
pub const STEPS_MAX: usize = 200_000;

/// Why there is no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The node has not got what it takes, or not now.
    NotHere,
    /// The same, and some pool contradicts itself.
    InvalidPools,
    /// It took too long to find out ([`STEPS_MAX`]).
    TimedOut,
    /// Claim, class or slice are wrong; no other node will do either.
    Wrong(String),
}

impl Failure {
    /// The reason as it is told of a node.
    pub fn text(&self) -> &str {
        match self {
            Failure::NotHere => "cannot allocate all claims",
            Failure::InvalidPools => "invalid resource pools were encountered",
            Failure::TimedOut => "timed out trying to allocate devices",
            Failure::Wrong(why) => why,
        }
    }
}

/// A device by its place: pool, slice, device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Spot {
    pub(crate) pool: usize,
    pub(crate) slice: usize,
    pub(crate) device: usize,
}

/// One alternative of a request, prepared.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) wanted: &'a Wanted,
    pub(crate) class: &'a Class,
    /// `request/alternative`, or the request's name.
    pub(crate) name: String,
    devices: usize,
    /// All devices that match, where all are wanted.
    all: Vec<Spot>,
}

/// Where the search is.
#[derive(Debug, Clone, Copy, Default)]
struct At {
    claim: usize,
    request: usize,
    alternative: usize,
    device: usize,
}

/// Why a branch of the search ends early.
enum Stop {
    /// The claim would get more devices than can be written down.
    TooMany,
    Failed(Failure),
}

type Found = Result<bool, Stop>;
type Counted<'a> = BTreeMap<(&'a str, &'a str), Quantity>;

fn wrong<T>(why: String) -> Result<T, Stop> {
    Err(Stop::Failed(Failure::Wrong(why)))
}

pub(crate) struct Search<'a, 'm, 'n> {
    inventory: &'a Inventory,
    selectors: &'m mut Selectors,
    node: Node<'n>,
    claims: &'a [&'a Claim],
    pools: Vec<Pool<'a>>,
    /// By claim, request, alternative.
    prepared: Vec<Vec<Vec<Prepared<'a>>>>,
    held: Vec<Vec<Held<'a>>>,
    /// Which claims are given a device for themselves, or to look after.
    allocating: HashMap<Spot, Vec<usize>>,
    /// How often a shared device is given, and what of it.
    sharing: HashMap<Spot, (usize, Amounts)>,
    /// Of each pool, once somebody asks: what allocated devices leave of the counters, and what picked ones take.
    left: HashMap<usize, Counted<'a>>,
    counted: HashMap<usize, Counted<'a>>,
    picked: Vec<Vec<Picked<'a>>>,
    chosen: HashMap<(usize, usize), usize>,
    steps: usize,
}

impl<'a, 'm, 'n> Search<'a, 'm, 'n> {
    pub(crate) fn run(
        inventory: &'a Inventory,
        selectors: &'m mut Selectors,
        node: &Node<'n>,
        claims: &'a [&'a Claim],
        share_id: &mut dyn FnMut() -> String,
    ) -> Result<Vec<Allocation>, Failure> {
        let mut search = Search {
            inventory,
            selectors,
            node: *node,
            claims,
            pools: gather(inventory, node),
            prepared: Vec::new(),
            held: Vec::new(),
            allocating: HashMap::new(),
            sharing: HashMap::new(),
            left: HashMap::new(),
            counted: HashMap::new(),
            picked: claims.iter().map(|_| Vec::new()).collect(),
            chosen: HashMap::new(),
            steps: 0,
        };
        let found = search
            .prepare()
            .and_then(|()| search.one(At::default(), false, Spot::default()));
        match found {
            Ok(true) => {
                let parts = (0..claims.len()).map(|at| {
                    let alternatives = search.prepared[at].iter().enumerate();
                    let chosen = alternatives.filter_map(|(request, all)| {
                        let chosen = search.chosen.get(&(at, request)).copied().unwrap_or(0);
                        all.get(chosen).map(|prepared| (chosen, prepared))
                    });
                    let chosen: Vec<_> = chosen.collect();
                    write(claims[at], &chosen, &search.picked[at], node, share_id)
                });
                Ok(parts.collect())
            }
            Ok(false) | Err(Stop::TooMany) => {
                let invalid = search.pools.iter().any(|p| p.state == State::Invalid);
                Err(if invalid {
                    Failure::InvalidPools
                } else {
                    Failure::NotHere
                })
            }
            Err(Stop::Failed(failure)) => Err(failure),
        }
    }

    // ---- before the search

    fn prepare(&mut self) -> Result<(), Stop> {
        for claim in self.claims {
            let mut least = 0usize;
            let mut requests = Vec::new();
            for request in &claim.requests {
                let mut alternatives = Vec::new();
                for wanted in &request.alternatives {
                    let name = request.name_of(wanted);
                    alternatives.push(self.prepare_one(claim, wanted, name)?);
                }
                let Some(fewest) = alternatives.iter().map(|p: &Prepared<'_>| p.devices).min()
                else {
                    return wrong(format!(
                        "claim {}, request {}: unknown request type",
                        claim.key(),
                        request.name
                    ));
                };
                least = least.saturating_add(fewest);
                requests.push(alternatives);
            }
            if least > RESULTS_MAX {
                return wrong(format!(
                    "claim {}: number of requested devices {least} exceeds the claim limit of {RESULTS_MAX}",
                    claim.key()
                ));
            }
            let unknown = claim
                .constraints
                .iter()
                .position(|c| matches!(c.rule, crate::claim::Rule::Unknown));
            if let Some(at) = unknown {
                return wrong(format!(
                    "claim {}, constraint #{at}: empty constraint (unsupported constraint type?)",
                    claim.key()
                ));
            }
            self.prepared.push(requests);
            self.held
                .push(claim.constraints.iter().map(Held::new).collect());
        }
        Ok(())
    }

    fn prepare_one(
        &mut self,
        claim: &Claim,
        wanted: &'a Wanted,
        name: String,
    ) -> Result<Prepared<'a>, Stop> {
        let told = format!("claim {}, request {}", claim.key(), wanted.name);
        if let Some(at) = wanted.selectors.iter().position(Option::is_none) {
            return wrong(format!(
                "{told}, selector #{at}: CEL expression empty (unsupported selector type?)"
            ));
        }
        if wanted.class.is_empty() {
            return wrong(format!(
                "{told}: missing device class name (unsupported request type?)"
            ));
        }
        let Some(class) = self.inventory.class(&wanted.class) else {
            return wrong(format!(
                "{told}: could not retrieve device class {0}: deviceclass.resource.k8s.io \"{0}\" not found",
                wanted.class
            ));
        };
        let mut prepared = Prepared {
            wanted,
            class,
            name,
            devices: 0,
            all: Vec::new(),
        };
        match wanted.mode {
            Mode::Exact(count) => prepared.devices = count,
            Mode::Unknown => return wrong(format!("{told}: unsupported count mode")),
            Mode::All => {
                prepared.all = self.all_devices(claim, wanted, class, &told)?;
                prepared.devices = prepared.all.len();
            }
        }
        Ok(prepared)
    }

    fn all_devices(
        &mut self,
        claim: &Claim,
        wanted: &Wanted,
        class: &Class,
        told: &str,
    ) -> Result<Vec<Spot>, Stop> {
        let mut all = Vec::new();
        for pool in 0..self.pools.len() {
            let id = self.pools[pool].id;
            let named = format!("{}/{}", id.driver, id.pool);
            match self.pools[pool].state {
                State::Whole => {}
                State::Incomplete => {
                    return wrong(format!(
                        "{told}: asks for all devices, but resource pool {named} is currently being updated"
                    ));
                }
                State::Invalid => {
                    return wrong(format!(
                        "{told}: asks for all devices, but resource pool {named} is currently invalid"
                    ));
                }
            }
            for slice in 0..self.pools[pool].slices.len() {
                for device in 0..self.pools[pool].slices[slice].slice.devices.len() {
                    let spot = Spot {
                        pool,
                        slice,
                        device,
                    };
                    if self.is_selectable(claim, wanted, class, spot)?
                        && self.has_enough(wanted, spot)
                    {
                        all.push(spot);
                    }
                }
            }
        }
        Ok(all)
    }

    // ---- the search

    /// Finds the device at this place of the claims, and all that follow. `alternative` when one alternative of a
    /// request is being tried; devices before `start` have been tried for it.
    fn one(&mut self, at: At, alternative: bool, start: Spot) -> Found {
        self.step()?;
        let Some(claim) = self.claims.get(at.claim).copied() else {
            return Ok(true);
        };
        if at.request >= claim.requests.len() {
            let next = At {
                claim: at.claim + 1,
                ..At::default()
            };
            return match self.one(next, false, Spot::default()) {
                // Another choice for an earlier claim may leave this one with fewer devices.
                Err(Stop::TooMany) => Ok(false),
                found => found,
            };
        }
        if !alternative && claim.requests[at.request].is_list {
            return self.alternatives(at);
        }
        let prepared = &self.prepared[at.claim][at.request][at.alternative];
        let (wanted, class, devices) = (prepared.wanted, prepared.class, prepared.devices);
        let all = wanted.mode == Mode::All;
        if all && devices == 0 {
            return Ok(false);
        }
        if at.device >= devices {
            let next = At {
                claim: at.claim,
                request: at.request + 1,
                ..At::default()
            };
            return self.one(next, false, Spot::default());
        }
        let after = self.picked[at.claim].len().saturating_add(devices) - at.device;
        if after > RESULTS_MAX {
            return Err(Stop::TooMany);
        }
        let next = At {
            device: at.device + 1,
            ..at
        };
        if all {
            let spot = prepared.all[at.device];
            if !self.pick(at, wanted, spot, true)? {
                return Ok(false);
            }
            let found = self.one(next, alternative, Spot::default());
            if !matches!(found, Ok(true)) {
                self.put_back(at, spot);
            }
            return found;
        }
        for pool in start.pool..self.pools.len() {
            if self.pools[pool].state != State::Whole {
                continue;
            }
            let first = if pool == start.pool { start.slice } else { 0 };
            for slice in first..self.pools[pool].slices.len() {
                let here = (pool, slice) == (start.pool, start.slice);
                let first = if here { start.device } else { 0 };
                for device in first..self.pools[pool].slices[slice].slice.devices.len() {
                    self.step()?;
                    let spot = Spot {
                        pool,
                        slice,
                        device,
                    };
                    if self.is_taken(at.claim, wanted, spot)
                        || !self.is_selectable(claim, wanted, class, spot)?
                        || !self.has_enough(wanted, spot)
                        || !self.pick(at, wanted, spot, false)?
                    {
                        continue;
                    }
                    let after = Spot {
                        device: device + 1,
                        ..spot
                    };
                    let found = self.one(next, alternative, after);
                    if matches!(found, Ok(true)) {
                        return found;
                    }
                    self.put_back(at, spot);
                    found?;
                }
            }
        }
        Ok(false)
    }

    /// The first alternative that leads to a solution.
    fn alternatives(&mut self, at: At) -> Found {
        let mut all_too_many = true;
        for alternative in 0..self.prepared[at.claim][at.request].len() {
            self.chosen.insert((at.claim, at.request), alternative);
            let this = At { alternative, ..at };
            match self.one(this, true, Spot::default()) {
                Err(Stop::TooMany) => {}
                Ok(false) => all_too_many = false,
                found => return found,
            }
        }
        if all_too_many {
            Err(Stop::TooMany)
        } else {
            Ok(false)
        }
    }

    fn step(&mut self) -> Result<(), Stop> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(Stop::Failed(Failure::TimedOut));
        }
        Ok(())
    }

    // ---- one device

    fn device(&self, spot: Spot) -> &'a Device {
        &self.pools[spot.pool].slices[spot.slice].slice.devices[spot.device]
    }

    /// Who has it already, outside of this search.
    fn use_of(&self, spot: Spot) -> Option<&'a Use> {
        let pool = self.pools[spot.pool].id;
        self.inventory.uses(pool)?.get(&self.device(spot).name)
    }

    /// Somebody has it for himself; or, for one who only looks after it, the same claim looks after it already.
    fn is_taken(&self, claim: usize, wanted: &Wanted, spot: Spot) -> bool {
        let here = self.allocating.get(&spot);
        if wanted.admin {
            return here.is_some_and(|claims| claims.contains(&claim));
        }
        self.use_of(spot).is_some_and(|it| it.whole > 0)
            || here.is_some_and(|claims| !claims.is_empty())
    }

    /// Do the selectors of class and request mean it, and can the node reach it?
    fn is_selectable(
        &mut self,
        claim: &Claim,
        wanted: &Wanted,
        class: &Class,
        spot: Spot,
    ) -> Result<bool, Stop> {
        let entry = self.pools[spot.pool].slices[spot.slice];
        let device = &entry.slice.devices[spot.device];
        let asked = Asked {
            slice: entry.number,
            at: spot.device,
            of: entry.slice.devices.len(),
            driver: &entry.slice.driver,
            device,
        };
        for (list, owner) in [(&class.selectors, None), (&wanted.selectors, Some(claim))] {
            for (number, expression) in list.iter().enumerate() {
                let owner = || match owner {
                    None => format!("class {}: selector #{number}", wanted.class),
                    Some(claim) => format!("claim {}: selector #{number}", claim.key()),
                };
                let Some(expression) = expression else {
                    return wrong(format!("{}: CEL expression empty", owner()));
                };
                match self.selectors.matches(expression, asked) {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    Err(why) => return wrong(format!("{}: {why}", owner())),
                }
            }
        }
        Ok(!entry.slice.per_device || device.place.reaches(&self.node))
    }

    /// Is as much of its capacity left as the request takes?
    fn has_enough(&self, wanted: &Wanted, spot: Spot) -> bool {
        let device = self.device(spot);
        let mut taken = Vec::new();
        taken.extend(self.use_of(spot).map(|it| &it.amounts));
        taken.extend(self.sharing.get(&spot).map(|(_, amounts)| amounts));
        suffices(&wanted.capacity, &device.capacity, &taken)
    }

    /// Picks a device, if nothing speaks against it. `must` when there is no other choice.
    fn pick(&mut self, at: At, wanted: &'a Wanted, spot: Spot, must: bool) -> Found {
        let device = self.device(spot);
        let taken = self.is_taken(at.claim, wanted, spot) && (!wanted.admin || !device.shared);
        let id = self.pools[spot.pool].id;
        let tainted = || {
            let by_rules = self
                .inventory
                .rules()
                .of(&id.driver, &id.pool, &device.name);
            let mut taints = device.taints.iter().chain(by_rules);
            taints.any(|t| t.keeps_away(&wanted.tolerations))
        };
        if taken || tainted() || !self.has_enough(wanted, spot) {
            return Ok(false);
        }
        let counts = self.counts(spot);
        if counts && !self.count(spot) {
            return Ok(false);
        }
        let request = &*self.claims[at.claim].requests[at.request].name;
        let qualified = &*self.prepared[at.claim][at.request][at.alternative].name;
        let driver = &*self.pools[spot.pool].id.driver;
        let held = &mut self.held[at.claim];
        let refused = held
            .iter_mut()
            .position(|held| !held.add(request, qualified, driver, device));
        if let Some(refused) = refused {
            for held in &mut held[..refused] {
                held.remove(request, qualified);
            }
            if counts {
                self.uncount(spot);
            }
            if must {
                let id = self.pools[spot.pool].id;
                return wrong(format!(
                    "claim {}, request {}: cannot add device {}/{}/{} because a claim constraint would not be satisfied",
                    self.claims[at.claim].key(),
                    wanted.name,
                    id.driver,
                    id.pool,
                    device.name
                ));
            }
            return Ok(false);
        }
        let share = device
            .shared
            .then(|| consumed(&wanted.capacity, &device.capacity));
        match &share {
            Some(amounts) => {
                let (claims, sum) = self.sharing.entry(spot).or_default();
                *claims += 1;
                shift(sum, amounts, true);
            }
            None => self.allocating.entry(spot).or_default().push(at.claim),
        }
        let entry = self.pools[spot.pool].slices[spot.slice];
        self.picked[at.claim].push(Picked {
            wanted,
            name: qualified.to_owned(),
            pool: self.pools[spot.pool].id,
            slice: &entry.slice,
            device,
            share,
            counted: counts,
        });
        Ok(true)
    }

    /// Undoes the last pick of the claim.
    fn put_back(&mut self, at: At, spot: Spot) {
        let Some(picked) = self.picked[at.claim].pop() else {
            return;
        };
        let request = &*self.claims[at.claim].requests[at.request].name;
        for held in &mut self.held[at.claim] {
            held.remove(request, &picked.name);
        }
        if picked.counted {
            self.uncount(spot);
        }
        match &picked.share {
            Some(amounts) => {
                if let Some((claims, sum)) = self.sharing.get_mut(&spot) {
                    *claims = claims.saturating_sub(1);
                    shift(sum, amounts, false);
                }
            }
            None => {
                if let Some(claims) = self.allocating.get_mut(&spot) {
                    claims.pop();
                }
            }
        }
    }

    // ---- counters

    /// Does it take of its pool's counters? One that is shared does so once.
    fn counts(&self, spot: Spot) -> bool {
        let device = self.device(spot);
        let shared_already = || {
            self.use_of(spot).is_some_and(|it| it.shares > 0)
                || self
                    .sharing
                    .get(&spot)
                    .is_some_and(|(claims, _)| *claims > 0)
        };
        let counted_already = device.shared && shared_already();
        !device.consumes.is_empty() && !counted_already
    }

    /// Takes of the counters what the device needs, if that is there.
    fn count(&mut self, spot: Spot) -> bool {
        if !self.left.contains_key(&spot.pool) {
            let left = self.left_of(spot.pool);
            self.left.insert(spot.pool, left);
        }
        self.shift_counters(spot, true);
        let (left, counted) = (&self.left[&spot.pool], &self.counted[&spot.pool]);
        let enough = left.iter().all(|(counter, left)| {
            let taken = counted.get(counter).unwrap_or(&Quantity::ZERO);
            left >= taken
        });
        if !enough {
            self.uncount(spot);
        }
        enough
    }

    fn uncount(&mut self, spot: Spot) {
        self.shift_counters(spot, false);
    }

    fn shift_counters(&mut self, spot: Spot, add: bool) {
        let device = self.device(spot);
        let counted = self.counted.entry(spot.pool).or_default();
        for (set, counters) in &device.consumes {
            for (name, amount) in counters {
                let amount = if add { *amount } else { amount.neg() };
                let sum = counted.entry((set, name)).or_insert(Quantity::ZERO);
                *sum = sum.add(&amount);
            }
        }
    }

    /// What allocated devices leave of a pool's counters.
    fn left_of(&self, pool: usize) -> Counted<'a> {
        let pool = &self.pools[pool];
        let mut left = Counted::new();
        for (set, counters) in &pool.counter_sets {
            for (name, amount) in *counters {
                left.insert((*set, &**name), *amount);
            }
        }
        let Some(uses) = self.inventory.uses(pool.id) else {
            return left;
        };
        let generation = pool.slices.first().map(|entry| entry.slice.generation);
        let all = self.inventory.of_pool(pool.id);
        for entry in all.filter(|entry| Some(entry.slice.generation) == generation) {
            let devices = entry.slice.devices.iter();
            for device in devices.filter(|device| uses.contains_key(&device.name)) {
                for (set, counters) in &device.consumes {
                    for (name, amount) in counters {
                        if let Some(left) = left.get_mut(&(&**set, &**name)) {
                            *left = left.sub(amount);
                        }
                    }
                }
            }
        }
        left
    }
}
