//! A selector's expression before it is evaluated: what it may be, what it can cost, and what is written otherwise.
//!
//! The library parses and evaluates; here stands what Kubernetes adds or forbids:
//!
//! - nothing but `device` is declared;
//! - `device.attributes["domain"]` of a domain the device does not have is an empty map, as is that of `device.capacity`;
//! - `cel.bind(name, value, body)` and `dyn(value)`;
//! - the cost is bounded before anything is evaluated, from above: no value of a device is longer than 64 bytes or has
//!   more than 64 entries.
//!
//! Does not know devices.

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue,
};
use kube_cel::cel::parser::Parser;

use crate::selector::{EXPRESSION_BYTES_MAX, EXPRESSION_COST_MAX};

/// The one variable.
pub(crate) const DEVICE: &str = "device";
/// Function that stands for the choice of a domain.
pub(crate) const DOMAIN: &str = "\0domain";
/// Brackets within brackets, and conditions within conditions: the parser and the evaluation call themselves. 32 take
/// about 300 KiB of stack.
const NESTING_MAX: usize = 32;
/// Longest chain of `?:`.
const CONDITIONS_MAX: usize = 32;
/// Sizes of attributes, and numbers of them (k8s: 64 bytes, 32 attributes and capacities).
const VALUE_SIZE_MAX: u64 = 64;

/// Parses an expression; the text says why it cannot be used.
pub(crate) fn compile(text: &str) -> Result<IdedExpr, String> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(format!(
            "compilation failed: expression is longer than {EXPRESSION_BYTES_MAX} bytes"
        ));
    }
    if nesting(text) > NESTING_MAX || text.matches('?').count() > CONDITIONS_MAX {
        return Err("compilation failed: expression is nested too deeply".into());
    }
    let parse = || Parser::default().enable_optional_syntax(true).parse(text);
    // Whatever the library's parser stumbles over is the expression's fault, not the process's end.
    let parsed = std::panic::catch_unwind(parse)
        .map_err(|_| "compilation failed: the expression cannot be parsed".to_owned())?;
    let mut parsed = parsed.map_err(|errors| format!("compilation failed: {errors}"))?;
    let mut scope = vec![DEVICE.to_owned()];
    rewrite(&mut parsed, &mut scope)?;
    Ok(parsed)
}

/// An upper bound of what evaluating it costs, in calls and bytes looked at.
pub(crate) fn cost(expression: &IdedExpr) -> u64 {
    bound(expression, &mut Vec::new()).0
}

/// Is it too dear to be evaluated?
pub(crate) fn is_too_dear(expression: &IdedExpr) -> bool {
    cost(expression) > EXPRESSION_COST_MAX
}

fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn entries(list: &mut [kube_cel::cel::common::ast::IdedEntryExpr]) -> Vec<&mut IdedExpr> {
    let mut all = Vec::new();
    for entry in list {
        match &mut entry.expr {
            EntryExpr::StructField(field) => all.push(&mut field.value),
            EntryExpr::MapEntry(entry) => all.extend([&mut entry.key, &mut entry.value]),
        }
    }
    all
}

/// Checks names, and writes what Kubernetes means otherwise in words the library knows.
fn rewrite(expression: &mut IdedExpr, scope: &mut Vec<String>) -> Result<(), String> {
    match &mut expression.expr {
        Expr::Literal(_) => Ok(()),
        Expr::Ident(name) => {
            if scope.iter().any(|known| known == name) {
                Ok(())
            } else {
                Err(format!(
                    "compilation failed: undeclared reference to '{name}' (in container '')"
                ))
            }
        }
        Expr::Select(select) => rewrite(&mut select.operand, scope),
        Expr::List(list) => {
            let mut elements = list.elements.iter_mut();
            elements.try_for_each(|element| rewrite(element, scope))
        }
        Expr::Map(map) => {
            let all = entries(&mut map.entries);
            all.into_iter().try_for_each(|entry| rewrite(entry, scope))
        }
        Expr::Struct(_) | Expr::Unspecified => {
            Err("compilation failed: messages cannot be made here".into())
        }
        Expr::Comprehension(loop_) => {
            rewrite(&mut loop_.iter_range, scope)?;
            rewrite(&mut loop_.accu_init, scope)?;
            let before = scope.len();
            scope.push(loop_.iter_var.clone());
            scope.extend(loop_.iter_var2.clone());
            scope.push(loop_.accu_var.clone());
            let inner = [
                &mut loop_.loop_cond,
                &mut loop_.loop_step,
                &mut loop_.result,
            ];
            let result = inner.into_iter().try_for_each(|part| rewrite(part, scope));
            scope.truncate(before);
            result
        }
        Expr::Call(call) => {
            if is_bind(call) {
                let bound = bind(call, scope)?;
                expression.expr = bound;
                return Ok(());
            }
            if let Some(target) = &mut call.target {
                rewrite(target, scope)?;
            }
            let mut args = call.args.iter_mut();
            args.try_for_each(|argument| rewrite(argument, scope))?;
            if call.func_name == "dyn" && call.target.is_none() && call.args.len() == 1 {
                *expression = call.args.remove(0);
            } else if call.func_name == "_?._" {
                // The library's own fails where the field is not there; its choice by index does not.
                call.func_name = "_[?_]".into();
            } else if is_choice_of_domain(call, scope) {
                let map = call.args.remove(0);
                call.target = Some(Box::new(map));
                call.func_name = DOMAIN.into();
            }
            Ok(())
        }
    }
}

fn is_bind(call: &CallExpr) -> bool {
    let target = call.target.as_ref().map(|target| &target.expr);
    call.func_name == "bind" && matches!(target, Some(Expr::Ident(name)) if name == "cel")
}

/// A loop over nothing, whose sum is the value that is bound.
fn bind(call: &mut CallExpr, scope: &mut Vec<String>) -> Result<Expr, String> {
    let [name, value, body] = call.args.as_mut_slice() else {
        return Err("compilation failed: cel.bind() takes three arguments".into());
    };
    let Expr::Ident(name) = &name.expr else {
        return Err(
            "compilation failed: cel.bind() variable names must be simple identifiers".into(),
        );
    };
    let (name, mut value, mut body) = (name.clone(), std::mem::take(value), std::mem::take(body));
    rewrite(&mut value, scope)?;
    scope.push(name.clone());
    let result = rewrite(&mut body, scope);
    scope.pop();
    result?;
    let plain = |expr| IdedExpr { id: 0, expr };
    Ok(Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range: plain(Expr::List(ListExpr::new(Vec::new()))),
        iter_var: "#unused".into(),
        iter_var2: None,
        accu_var: name.clone(),
        accu_init: value,
        loop_cond: plain(Expr::Literal(LiteralValue::Boolean(false.into()))),
        loop_step: plain(Expr::Ident(name)),
        result: body,
    })))
}

/// `device.attributes[…]` or `device.capacity[…]`, where `device` is still the device.
fn is_choice_of_domain(call: &CallExpr, scope: &[String]) -> bool {
    let shadowed = scope.iter().filter(|name| *name == DEVICE).count() > 1;
    let [map, _] = call.args.as_slice() else {
        return false;
    };
    let Expr::Select(select) = &map.expr else {
        return false;
    };
    call.func_name == "_[_]"
        && !shadowed
        && !select.test
        && matches!(&*select.field, "attributes" | "capacity")
        && matches!(&select.operand.expr, Expr::Ident(name) if name == DEVICE)
}

/// Cost, and size of the value: bytes of a text, entries of a list with all that is in them.
type Bound = (u64, u64);

fn bound(expression: &IdedExpr, sizes: &mut Vec<(String, u64)>) -> Bound {
    let sum = |parts: Vec<Bound>| {
        parts.into_iter().fold((1, 0u64), |sum: Bound, part| {
            (sum.0.saturating_add(part.0), sum.1.saturating_add(part.1))
        })
    };
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => (1, text.inner().len() as u64 + 1),
        Expr::Literal(LiteralValue::Bytes(bytes)) => (1, bytes.inner().len() as u64 + 1),
        Expr::Literal(_) | Expr::Unspecified | Expr::Struct(_) => (1, 1),
        Expr::Ident(name) => {
            let known = sizes.iter().rev().find(|(known, _)| known == name);
            (1, known.map_or(VALUE_SIZE_MAX, |(_, size)| *size))
        }
        Expr::Select(select) => {
            let (cost, size) = bound(&select.operand, sizes);
            (cost.saturating_add(1), size.max(VALUE_SIZE_MAX))
        }
        Expr::List(list) => {
            let parts = list.elements.iter().map(|e| bound(e, sizes)).collect();
            let (cost, size) = sum(parts);
            (cost, size.saturating_add(list.elements.len() as u64))
        }
        Expr::Map(map) => {
            let parts = map.entries.iter().flat_map(|entry| match &entry.expr {
                EntryExpr::StructField(field) => vec![bound(&field.value, sizes)],
                EntryExpr::MapEntry(entry) => {
                    vec![bound(&entry.key, sizes), bound(&entry.value, sizes)]
                }
            });
            let (cost, size) = sum(parts.collect());
            (cost, size.saturating_add(map.entries.len() as u64))
        }
        Expr::Call(call) => {
            let all = call.target.iter().map(|t| &**t).chain(&call.args);
            let parts: Vec<Bound> = all.map(|part| bound(part, sizes)).collect();
            let product = parts.iter().fold(1u64, |product, (_, size)| {
                product.saturating_mul((*size).max(1))
            });
            let sizes_of: Vec<u64> = parts.iter().map(|(_, size)| *size).collect();
            let (cost, size) = sum(parts);
            let longest = sizes_of.iter().copied().max().unwrap_or(1);
            match &*call.func_name {
                // What these make or look at can be as much as one for each of the other.
                "replace" | "join" | "format" => (cost.saturating_add(product), product),
                "matches" | "find" | "findAll" | "contains" | "indexOf" | "lastIndexOf" => {
                    (cost.saturating_add(product / 8), longest)
                }
                "_&&_" | "_||_" | "!_" | "@not_strictly_false" => (cost, 1),
                "_?_:_" | "orValue" | "or" => (cost, longest),
                "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" | "@in" | "startsWith"
                | "endsWith" => (cost.saturating_add(size), 1),
                _ => (cost.saturating_add(size), size),
            }
        }
        Expr::Comprehension(loop_) => {
            let (range_cost, range) = bound(&loop_.iter_range, sizes);
            let (init_cost, start) = bound(&loop_.accu_init, sizes);
            let before = sizes.len();
            sizes.push((loop_.iter_var.clone(), range.max(1)));
            sizes.extend(loop_.iter_var2.clone().map(|name| (name, range.max(1))));
            sizes.push((loop_.accu_var.clone(), start));
            // One turn adds at most this much; the last turn works on all that the others added.
            let (_, after) = bound(&loop_.loop_step, sizes);
            let grown = after.saturating_sub(start).saturating_mul(range);
            let end = start.saturating_add(grown);
            if let Some(last) = sizes.last_mut() {
                last.1 = end;
            }
            let (step_cost, _) = bound(&loop_.loop_step, sizes);
            let (cond_cost, _) = bound(&loop_.loop_cond, sizes);
            let (result_cost, size) = bound(&loop_.result, sizes);
            sizes.truncate(before);
            let turns = step_cost.saturating_add(cond_cost).saturating_mul(range);
            let once = range_cost
                .saturating_add(init_cost)
                .saturating_add(result_cost);
            (once.saturating_add(turns), size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_says_why() {
        for (expression, expected) in [
            (
                "device.driver ==",
                "compilation failed: ERROR: <input>:1:17",
            ),
            (
                "foo == 1",
                "compilation failed: undeclared reference to 'foo' (in container '')",
            ),
            (
                "cel.bind(x, 1, y)",
                "compilation failed: undeclared reference to 'y' (in container '')",
            ),
            ("Foo{}", "compilation failed: messages cannot be made here"),
        ] {
            let why = compile(expression).unwrap_err();
            assert!(why.starts_with(expected), "{expression}: {why}");
        }
        let deep = format!("{}true{}", "(".repeat(5_000), ")".repeat(5_000));
        assert_eq!(
            compile(&deep).unwrap_err(),
            "compilation failed: expression is nested too deeply"
        );
        let chain = format!("{}false", "true ? true : ".repeat(700));
        assert!(compile(&chain).is_err());
        let long = format!("'{}' == ''", "x".repeat(EXPRESSION_BYTES_MAX));
        assert!(compile(&long).is_err());
    }

    #[test]
    fn the_cost_is_bounded_from_above() {
        let too_dear = |text: &str| is_too_dear(&compile(text).unwrap());
        assert!(!too_dear(
            "device.attributes[\"gpu.example.com\"].model == \"a100\" && \
             device.capacity[\"gpu.example.com\"].memory.compareTo(quantity(\"10Gi\")) >= 0"
        ));
        assert!(!too_dear(
            "device.attributes.exists(d, [\"a\", \"b\"].exists(x, d.startsWith(x)))"
        ));
        let attributes = "device.attributes";
        assert!(too_dear(&format!(
            "{attributes}.all(a, {attributes}.all(b, {attributes}.all(c, {attributes}.all(d, a == b || c == d))))"
        )));
        // Twice as long with every step.
        let mut doubling = "x30".to_owned();
        for step in (0..30).rev() {
            let (now, next) = (step, step + 1);
            doubling = format!("cel.bind(x{next}, x{now} + x{now}, {doubling})");
        }
        let doubling = format!("cel.bind(x0, device.driver, {doubling}) == \"\"");
        assert!(compile(&doubling).map_or(true, |parsed| is_too_dear(&parsed)));
    }
}
