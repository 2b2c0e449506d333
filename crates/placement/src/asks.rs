//! Node selectors and node affinity, compiled: what a class asks of a node's labels and name.
//!
//! Does not know scores or states; looks at a shape's labels only.

use crate::fleet::{Fleet, OTHER, Shape};
use crate::intern::Word;
use crate::objects::{Requirement, SelectorOperator, Term};

#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) key: Word,
    operator: SelectorOperator,
    pub(crate) values: Box<[Word]>,
    number: i64,
}

#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) asks: Box<[Ask]>,
    /// Nothing can match it, or (true, empty) everything does.
    constant: Option<bool>,
}

/// Nodes the class is restricted to before any filter.
#[derive(Debug)]
pub(crate) enum Names {
    Any,
    Only(Box<[Box<str>]>),
    Contradiction,
}

pub(crate) fn compile(term: &Term, fleet: &mut Fleet) -> Terms {
    let name_key = fleet.name_key();
    let constant = if term.broken {
        Some(false)
    } else if term.expressions.is_empty() && term.names.is_empty() {
        Some(term.pinned)
    } else {
        None
    };
    let mut asks = Vec::new();
    if constant.is_none() {
        for requirement in &term.expressions {
            let key = fleet.words.acquire(&requirement.key);
            asks.push(Ask::new(key, requirement, fleet));
        }
        for requirement in &term.names {
            fleet.words.hold(name_key);
            asks.push(Ask::new(name_key, requirement, fleet));
        }
    }
    Terms {
        asks: asks.into(),
        constant,
    }
}

/// The nodes required terms name: only when every term names some, for terms are alternatives.
pub(crate) fn named_nodes(required: Option<&[Term]>) -> Names {
    let mut all: Vec<Box<str>> = Vec::new();
    let Some(terms) = required.filter(|t| !t.is_empty()) else {
        return Names::Any;
    };
    for term in terms {
        let mut lists = term
            .names
            .iter()
            .filter(|r| r.operator == SelectorOperator::In)
            .map(|r| &r.values);
        let Some(first) = lists.next() else {
            return Names::Any;
        };
        let mut names = first.clone();
        for list in lists {
            names.retain(|n| list.contains(n));
        }
        if names.is_empty() {
            return Names::Contradiction;
        }
        all.append(&mut names);
    }
    all.sort();
    all.dedup();
    Names::Only(all.into())
}

impl Terms {
    pub(crate) fn matches(&self, fleet: &Fleet, shape: &Shape) -> bool {
        self.constant
            .unwrap_or_else(|| self.asks.iter().all(|a| a.matches(fleet, shape)))
    }
}

impl Ask {
    /// The label has exactly this value.
    pub(crate) fn equals(key: &str, value: &str, fleet: &mut Fleet) -> Ask {
        Ask {
            key: fleet.words.acquire(key),
            operator: SelectorOperator::In,
            values: [fleet.words.acquire(value)].into(),
            number: 0,
        }
    }

    fn new(key: Word, requirement: &Requirement, fleet: &mut Fleet) -> Ask {
        let by_size = matches!(
            requirement.operator,
            SelectorOperator::Gt | SelectorOperator::Lt
        );
        let number = requirement.values.first().and_then(|v| v.parse().ok());
        Ask {
            key,
            operator: requirement.operator,
            values: requirement
                .values
                .iter()
                .filter(|_| !by_size)
                .map(|v| fleet.words.acquire(v))
                .collect(),
            number: number.unwrap_or(0),
        }
    }

    pub(crate) fn by_size(&self) -> bool {
        matches!(self.operator, SelectorOperator::Gt | SelectorOperator::Lt)
    }

    pub(crate) fn matches(&self, fleet: &Fleet, shape: &Shape) -> bool {
        let label = shape.label(self.key);
        let listed = || label.is_some_and(|value| self.values.contains(&value));
        let number = || {
            let value = label.filter(|&v| v != OTHER)?;
            fleet.words.text(value).parse::<i64>().ok()
        };
        match self.operator {
            SelectorOperator::In => listed(),
            SelectorOperator::NotIn => !listed(),
            SelectorOperator::Exists => label.is_some(),
            SelectorOperator::DoesNotExist => label.is_none(),
            SelectorOperator::Gt => number().is_some_and(|n| n > self.number),
            SelectorOperator::Lt => number().is_some_and(|n| n < self.number),
        }
    }
}
