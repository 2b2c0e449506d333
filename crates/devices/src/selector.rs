//! Expressions over a device: compiled once each, asked once a device.
//!
//! Does not know requests, or why a device is looked at.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::extractors::This;
use kube_cel::cel::objects::{Key, ResolveResult};
use kube_cel::cel::{Context, ExecutionError, IdedExpr, Program, Value};
use meta::Quantity;

use crate::expression::{DEVICE, DOMAIN, compile, is_too_dear};
use crate::slice::{Attribute, Device};

/// Longest expression (k8s: `CELSelectorExpressionMaxLength`).
pub const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
/// Dearest expression (k8s: `CELSelectorExpressionMaxCost`). We bound the cost before evaluating, from above.
pub const EXPRESSION_COST_MAX: u64 = 1_000_000;
/// Expressions kept compiled, about 10 KiB each; beyond that all are compiled anew.
const EXPRESSIONS_MAX: usize = 1_024;
/// Answers kept, one a slice and expression: about 64 MB; beyond that all are asked anew.
const ANSWERS_MAX: usize = 1 << 20;
/// Largest quantity an expression may name: the library's arithmetic has 128 bits, of which nine digits are fractions.
const QUANTITY_MAX: f64 = 1e27;

/// What is wrong with an expression that somebody wants to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// It cannot be compiled, and why.
    Invalid(String),
    /// It may cost more than [`EXPRESSION_COST_MAX`].
    TooDear,
}

/// Whether an expression can be used as a selector.
pub fn check_expression(expression: &str) -> Result<(), Unusable> {
    let compiled = compile(expression).map_err(Unusable::Invalid)?;
    if is_too_dear(&compiled) {
        return Err(Unusable::TooDear);
    }
    Ok(())
}

type Compiled = Result<IdedExpr, String>;

/// Compiled expressions, and what they said of devices.
#[derive(Debug)]
pub(crate) struct Selectors {
    functions: Functions,
    compiled: HashMap<Box<str>, (u32, Arc<Compiled>)>,
    next: u32,
    /// By number of the slice and of the expression: one answer a device.
    answers: HashMap<(u32, u32), Box<[Answer]>>,
}

struct Functions(Context<'static>);

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Functions")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Unknown,
    No,
    Yes,
}

/// A device, by the number of its slice and its place there.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) slice: u32,
    pub(crate) at: usize,
    /// Devices of the slice.
    pub(crate) of: usize,
    pub(crate) driver: &'a str,
    pub(crate) device: &'a Device,
}

impl Default for Selectors {
    fn default() -> Selectors {
        let mut functions = Context::default().with_all();
        functions.add_function(DOMAIN, domain);
        functions.add_function("quantity", quantity);
        functions.add_function("isQuantity", is_quantity);
        Selectors {
            functions: Functions(functions),
            compiled: HashMap::new(),
            next: 0,
            answers: HashMap::new(),
        }
    }
}

impl Selectors {
    /// Does the device match? An error names what is wrong with expression or device, as upstream does.
    pub(crate) fn matches(&mut self, expression: &str, asked: Asked<'_>) -> Result<bool, String> {
        let (number, compiled) = self.compiled(expression);
        let answers = self.answers.get(&(asked.slice, number));
        match answers.and_then(|answers| answers.get(asked.at)) {
            Some(Answer::Yes) => return Ok(true),
            Some(Answer::No) => return Ok(false),
            Some(Answer::Unknown) | None => {}
        }
        let compiled = match &*compiled {
            Ok(compiled) => compiled,
            Err(why) => return Err(format!("CEL compile error: {why}")),
        };
        let answer = self.evaluate(compiled, asked);
        let answer = answer.map_err(|why| format!("CEL runtime error: {why}"))?;
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        let unknown = || vec![Answer::Unknown; asked.of].into();
        let answers = self.answers.entry((asked.slice, number));
        if let Some(slot) = answers.or_insert_with(unknown).get_mut(asked.at) {
            *slot = if answer { Answer::Yes } else { Answer::No };
        }
        Ok(answer)
    }

    fn compiled(&mut self, expression: &str) -> (u32, Arc<Compiled>) {
        if let Some((number, compiled)) = self.compiled.get(expression) {
            return (*number, compiled.clone());
        }
        if self.compiled.len() >= EXPRESSIONS_MAX {
            self.compiled.clear();
            self.answers.clear();
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let compiled = Arc::new(compile(expression));
        let entry = (number, compiled.clone());
        self.compiled.insert(expression.into(), entry);
        (number, compiled)
    }

    fn evaluate(&self, expression: &IdedExpr, asked: Asked<'_>) -> Result<bool, String> {
        if is_too_dear(expression) {
            return Err("operation cancelled: actual cost limit exceeded".into());
        }
        let mut context = self.functions.0.new_inner_scope();
        context.add_variable_from_value(DEVICE, value(asked)?);
        // Arithmetic that the library does not guard is the expression's fault, not the process's end.
        let result = catch_unwind(AssertUnwindSafe(|| context.resolve(expression)));
        match result {
            Ok(Ok(Value::Bool(answer))) => Ok(answer),
            Ok(Ok(other)) => {
                let got = other.type_of();
                Err(format!(
                    "CEL result of type {got} could not be converted to bool: type conversion error from '{got}' to 'bool'"
                ))
            }
            Ok(Err(error)) => Err(words(&error)),
            Err(_) => Err("the expression cannot be evaluated".into()),
        }
    }
}

/// The device as expressions see it.
fn value(asked: Asked<'_>) -> Result<Value, String> {
    let Asked { driver, device, .. } = asked;
    let mut attributes = Domains::new();
    for (name, attribute) in &device.attributes {
        let value = native(attribute);
        let value = value.map_err(|why| format!("attribute {name}: {why}"))?;
        insert(&mut attributes, driver, name, value);
    }
    let mut capacity = Domains::new();
    for (name, amount) in &device.capacity {
        let amount = made(Maker::Quantity, &amount.value.to_string())?;
        insert(&mut capacity, driver, name, amount);
    }
    let map = |domains: Domains| {
        let domains = domains.into_iter();
        Value::from(
            domains
                .map(|(domain, values)| (domain, Value::from(values)))
                .collect::<HashMap<String, Value>>(),
        )
    };
    Ok(Value::from(HashMap::from([
        ("driver".to_owned(), string(driver)),
        (
            "allowMultipleAllocations".to_owned(),
            Value::Bool(device.shared),
        ),
        ("attributes".to_owned(), map(attributes)),
        ("capacity".to_owned(), map(capacity)),
    ])))
}

fn native(attribute: &Attribute) -> Result<Value, String> {
    match attribute {
        Attribute::Int(int) => Ok(Value::Int(*int)),
        Attribute::Bool(bool) => Ok(Value::Bool(*bool)),
        Attribute::Text(text) => Ok(string(text)),
        Attribute::Version(version) => {
            made(Maker::Version, version).map_err(|why| format!("parse semantic version: {why}"))
        }
        Attribute::Unknown => Err("unsupported attribute value".into()),
    }
}

/// Values that only functions of the library make.
#[derive(Clone, Copy)]
enum Maker {
    Quantity,
    Version,
}

struct Library {
    functions: Context<'static>,
    quantity: Option<Program>,
    version: Option<Program>,
}

thread_local! {
    /// The library's own functions: making the table of them takes longer than any expression.
    static LIBRARY: Library = Library {
        functions: Context::default().with_all(),
        quantity: Program::compile("quantity(text)").ok(),
        version: Program::compile("semver(text)").ok(),
    };
}

fn made(maker: Maker, text: &str) -> Result<Value, String> {
    LIBRARY.with(|library| {
        let mut context = library.functions.new_inner_scope();
        context.add_variable_from_value("text", text.to_owned());
        let call = match maker {
            Maker::Quantity => &library.quantity,
            Maker::Version => &library.version,
        };
        let call = call.as_ref().ok_or("the library lacks a function")?;
        call.execute(&context).map_err(|error| words(&error))
    })
}

type Domains = HashMap<String, HashMap<String, Value>>;

/// Names without a domain are of the driver's.
fn insert(domains: &mut Domains, driver: &str, name: &str, value: Value) {
    let (domain, id) = name.split_once('/').unwrap_or((driver, name));
    let values = domains.entry(domain.to_owned()).or_default();
    values.insert(id.to_owned(), value);
}

fn string(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

/// The library's errors in the words of upstream's.
fn words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::NoSuchOverload => "no such overload".into(),
        other => other.to_string(),
    }
}

/// What a device has of a domain; nothing of one that it does not have.
fn domain(This(domains): This<Value>, name: Value) -> ResolveResult {
    let Value::String(name) = name else {
        return Err(ExecutionError::NoSuchOverload);
    };
    let Value::Map(domains) = domains else {
        return Err(ExecutionError::NoSuchOverload);
    };
    let known = domains.map.get(&Key::String(name));
    let nothing = || Value::from(HashMap::<String, Value>::new());
    Ok(known.cloned().unwrap_or_else(nothing))
}

fn parse(text: &str) -> Result<Quantity, String> {
    let quantity = Quantity::parse(text)?;
    if quantity.as_f64().abs() > QUANTITY_MAX {
        return Err("the quantity is too large".into());
    }
    Ok(quantity)
}

/// As the library's own, of texts that its arithmetic can hold, in the form the API gives them.
fn quantity(text: Arc<String>) -> ResolveResult {
    let error = |why: String| ExecutionError::function_error("quantity", why);
    let quantity = parse(&text).map_err(error)?;
    made(Maker::Quantity, &quantity.to_string()).map_err(error)
}

fn is_quantity(text: Arc<String>) -> ResolveResult {
    Ok(Value::Bool(parse(&text).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slice;
    use value::json;

    fn slice() -> Slice {
        Slice::read(
            &json!({"metadata": {"name": "s"}, "spec": {"driver": "gpu.example.com", "devices": [{"name": "d",
            "attributes": {
                "model": {"string": "a100"}, "index": {"int": 3}, "healthy": {"bool": true},
                "dra.example.com/numa": {"int": 1}, "version": {"version": "1.2.3"}},
            "capacity": {"memory": {"value": "40Gi"}}}]}}),
        )
    }

    fn ask(selectors: &mut Selectors, expression: &str) -> Result<bool, String> {
        let slice = slice();
        selectors.matches(
            expression,
            Asked {
                slice: 1,
                at: 0,
                of: 1,
                driver: &slice.driver,
                device: &slice.devices[0],
            },
        )
    }

    #[test]
    fn expressions_see_the_device() {
        let mut selectors = Selectors::default();
        for (expression, expected) in [
            ("device.driver == \"gpu.example.com\"", true),
            (
                "device.attributes[\"gpu.example.com\"].model == \"a100\"",
                true,
            ),
            ("device.attributes[\"gpu.example.com\"].index > 3", false),
            ("device.attributes[\"gpu.example.com\"].healthy", true),
            ("device.attributes[\"dra.example.com\"].numa == 1", true),
            (
                "device.attributes[\"gpu.example.com\"].version == semver(\"1.2.3\")",
                true,
            ),
            (
                "device.attributes[\"gpu.example.com\"].version.isGreaterThan(semver(\"1.3.0\"))",
                false,
            ),
            (
                "device.capacity[\"gpu.example.com\"].memory.compareTo(quantity(\"10Gi\")) >= 0",
                true,
            ),
            (
                "device.capacity[\"gpu.example.com\"].memory == quantity(\"40960Mi\")",
                true,
            ),
            ("has(device.attributes[\"gpu.example.com\"].model)", true),
            ("has(device.attributes[\"gpu.example.com\"].nothing)", false),
            ("has(device.attributes[\"other.example.com\"].model)", false),
            ("\"other.example.com\" in device.attributes", false),
            ("\"model\" in device.attributes[\"gpu.example.com\"]", true),
            (
                "cel.bind(gpu, device.attributes[\"gpu.example.com\"], gpu.healthy && gpu.index == 3)",
                true,
            ),
            (
                "device.attributes[\"gpu.example.com\"].?nothing.orValue(7) == 7",
                true,
            ),
            (
                "device.attributes[\"gpu.example.com\"].model.matches(\"^a[0-9]+$\")",
                true,
            ),
            (
                "dyn(device.attributes[\"gpu.example.com\"].index) in [1, 3]",
                true,
            ),
            ("device.allowMultipleAllocations", false),
            ("isQuantity(\"1Gi\") && !isQuantity(\"much\")", true),
        ] {
            assert_eq!(
                ask(&mut selectors, expression),
                Ok(expected),
                "{expression}"
            );
            assert_eq!(
                ask(&mut selectors, expression),
                Ok(expected),
                "{expression}"
            );
        }
    }

    #[test]
    fn what_fails_is_said_in_upstreams_words() {
        let mut selectors = Selectors::default();
        for (expression, expected) in [
            (
                "device.attributes[\"gpu.example.com\"].nothing == 1",
                "CEL runtime error: no such key: nothing",
            ),
            (
                "device.attributes[\"other.example.com\"].model == 1",
                "CEL runtime error: no such key: model",
            ),
            (
                "device.attributes[\"gpu.example.com\"].index",
                "CEL runtime error: CEL result of type int could not be converted to bool: \
                 type conversion error from 'int' to 'bool'",
            ),
            (
                "device.attributes[\"gpu.example.com\"].index > \"a\"",
                "CEL runtime error: no such overload",
            ),
            (
                "quantity(\"1e60\").compareTo(quantity(\"1n\")) > 0",
                "CEL runtime error: Error executing function 'quantity': the quantity is too large",
            ),
            (
                "nothing",
                "CEL compile error: compilation failed: undeclared reference to 'nothing' (in container '')",
            ),
        ] {
            assert_eq!(ask(&mut selectors, expression), Err(expected.to_owned()));
        }
    }

    #[test]
    fn compiled_expressions_are_bounded() {
        let mut selectors = Selectors::default();
        for number in 0..=EXPRESSIONS_MAX as i64 {
            let expression = format!("device.attributes[\"gpu.example.com\"].index == {number}");
            assert_eq!(ask(&mut selectors, &expression), Ok(number == 3));
        }
        assert!(selectors.compiled.len() <= EXPRESSIONS_MAX);
        assert!(selectors.answers.len() <= EXPRESSIONS_MAX);
    }
}
