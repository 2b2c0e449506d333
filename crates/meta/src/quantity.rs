//! Resource quantities: `100m`, `1536Mi`, `2e3`. Parsing, exact arithmetic and upstream's canonical text.
//!
//! A quantity is `mantissa × 10^exponent` with a 128-bit mantissa, exact down to nano; what is finer rounds away from
//! zero. Upstream falls back to unlimited integers; here a number of more than 38 digits (of the number itself or, with
//! a binary suffix, of its exact product) is refused, and sums beyond that saturate. Knows nothing of resource names.

use std::cmp::Ordering;
use std::fmt;

/// The finest power of ten kept.
const NANO: i32 = -9;

/// Exponents beyond this are refused, so that no text makes a number of absurd length.
const EXPONENT_MAX: i64 = 1000;

/// The largest value of a binary quantity; upstream caps there.
const BINARY_MAX: i128 = i64::MAX as i128;

const WRONG_FORMAT: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const WRONG_NUMBER: &str = "unable to parse numeric part of quantity";
const WRONG_SUFFIX: &str = "unable to parse quantity's suffix";

const DECIMAL_SUFFIXES: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// How a quantity was written, and is printed if that loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `1e3`
    DecimalExponent,
    /// `1Ki`
    BinarySi,
    /// `1k`
    DecimalSi,
}

/// An exact amount of a resource. Equality and order are those of the amount, whatever the format.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// Without factors of ten unless zero, whose exponent is 0.
    mantissa: i128,
    /// At least [`NANO`].
    exponent: i32,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity {
        mantissa: 0,
        exponent: 0,
        format: Format::DecimalSi,
    };

    /// Parses any text the API accepts.
    pub fn parse(text: &str) -> Result<Quantity, String> {
        let parts = Parts::of(text)?;
        let (format, suffix) = Suffix::of(parts.suffix)?;
        let fraction = parts.fraction.trim_end_matches('0');
        let mut mantissa: i128 = 0;
        for digit in parts.whole.bytes().chain(fraction.bytes()) {
            mantissa = mantissa
                .checked_mul(10)
                .and_then(|m| m.checked_add(i128::from(digit - b'0')))
                .ok_or(WRONG_NUMBER)?;
        }
        let decimals = i32::try_from(fraction.len()).map_err(|_| WRONG_NUMBER)?;
        let mut quantity = match suffix {
            Suffix::Ten(exponent) => Quantity::rounded(mantissa, exponent - decimals, format),
            Suffix::Two(power) => Quantity::binary(mantissa, decimals, power)?,
        };
        if parts.negative {
            quantity.mantissa = -quantity.mantissa;
        }
        Ok(quantity)
    }

    /// A whole number of units.
    pub fn from_value(value: i64, format: Format) -> Quantity {
        Quantity::rounded(i128::from(value), 0, format)
    }

    /// A whole number of thousandths.
    pub fn from_milli(milli: i64, format: Format) -> Quantity {
        Quantity::rounded(i128::from(milli), -3, format)
    }

    /// Brings any mantissa and exponent into range: finer than nano rounds away from zero, factors of ten are moved.
    fn rounded(mut mantissa: i128, mut exponent: i32, format: Format) -> Quantity {
        if mantissa == 0 {
            return Quantity {
                mantissa: 0,
                exponent: 0,
                format,
            };
        }
        if exponent < NANO {
            mantissa = divide_away_from_zero(mantissa, power_of_ten(NANO.saturating_sub(exponent)));
            exponent = NANO;
        }
        while mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        Quantity {
            mantissa,
            exponent,
            format,
        }
    }

    /// `mantissa × 10^-decimals × 2^power`, capped; a fraction of one unit prints in decimal from then on.
    fn binary(mantissa: i128, decimals: i32, power: u32) -> Result<Quantity, String> {
        let factor = 1i128 << power;
        let quantity = match mantissa.checked_mul(factor) {
            Some(product) => Quantity::rounded(product, -decimals, Format::BinarySi),
            // Too many digits for the exact product: only a number that is capped anyway, or one with a long fraction.
            None => match power_of_ten(decimals) {
                Some(scale) if mantissa / scale < BINARY_MAX / factor => {
                    return Err(WRONG_NUMBER.to_owned());
                }
                Some(_) => Quantity::rounded(BINARY_MAX, 0, Format::BinarySi),
                None => return Err(WRONG_NUMBER.to_owned()),
            },
        };
        let cap = Quantity::rounded(BINARY_MAX, 0, Format::BinarySi);
        if quantity > cap {
            return Ok(cap);
        }
        let below_one = quantity < Quantity::rounded(1, 0, Format::BinarySi) && !quantity.is_zero();
        let format = if below_one {
            Format::DecimalSi
        } else {
            Format::BinarySi
        };
        Ok(Quantity { format, ..quantity })
    }

    /// How it was written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        match self.mantissa.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// Whole units, rounded away from zero; saturates.
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }

    /// Thousandths, rounded away from zero; saturates.
    pub fn milli_value(&self) -> i64 {
        self.scaled(-3)
    }

    /// The amount in units of `10^exponent`, rounded away from zero; saturates.
    pub fn scaled(&self, exponent: i32) -> i64 {
        let shift = self.exponent.saturating_sub(exponent);
        let wide = if shift < 0 {
            divide_away_from_zero(self.mantissa, power_of_ten(shift.saturating_neg()))
        } else {
            multiply_saturating(self.mantissa, power_of_ten(shift))
        };
        i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
    }

    /// The sum, in the format of `self` unless that is nothing; saturates beyond 38 digits.
    pub fn add(&self, other: &Quantity) -> Quantity {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        if other.is_zero() {
            return Quantity { format, ..*self };
        }
        if self.is_zero() {
            return Quantity { format, ..*other };
        }
        let exponent = self.exponent.min(other.exponent);
        let align =
            |q: &Quantity| multiply_saturating(q.mantissa, power_of_ten(q.exponent - exponent));
        Quantity::rounded(align(self).saturating_add(align(other)), exponent, format)
    }

    /// The difference, in the format of `self` unless that is nothing; saturates beyond 38 digits.
    pub fn sub(&self, other: &Quantity) -> Quantity {
        self.add(&other.neg())
    }

    /// The same amount with the other sign.
    pub fn neg(&self) -> Quantity {
        Quantity {
            mantissa: self.mantissa.saturating_neg(),
            ..*self
        }
    }

    /// The amount as a floating-point number, for ratios.
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.exponent)
    }

    /// The whole units, if there is no fraction and they fit 128 bits.
    fn whole(&self) -> Option<i128> {
        if self.exponent < 0 {
            return None;
        }
        self.mantissa.checked_mul(power_of_ten(self.exponent)?)
    }
}

/// `canonical("1000m")` is `1`: the text the API stores and returns.
pub fn canonical(text: &str) -> Result<String, String> {
    Quantity::parse(text).map(|quantity| quantity.to_string())
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi {
            // Small and fractional amounts print in decimal, where they lose nothing.
            if let Some(whole) = self.whole().filter(|whole| whole.unsigned_abs() >= 1024) {
                return write_binary(f, whole);
            }
        }
        self.write_decimal(f)
    }
}

impl Quantity {
    fn write_decimal(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut exponent = self.exponent;
        if self.format != Format::DecimalExponent {
            // No suffix is larger than E: the rest are zeros.
            exponent = exponent.min(18);
        }
        exponent -= exponent.rem_euclid(3);
        let zeros = usize::try_from(self.exponent - exponent).unwrap_or(0);
        write!(f, "{}{:0<zeros$}", self.mantissa, "")?;
        if self.format == Format::DecimalExponent {
            return if exponent == 0 {
                Ok(())
            } else {
                write!(f, "e{exponent}")
            };
        }
        let suffix = DECIMAL_SUFFIXES
            .iter()
            .find(|(_, power)| *power == exponent);
        f.write_str(suffix.map_or("", |(suffix, _)| suffix))
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, mut whole: i128) -> fmt::Result {
    let mut steps = 0;
    while whole % 1024 == 0 && steps + 1 < BINARY_SUFFIXES.len() {
        whole /= 1024;
        steps += 1;
    }
    write!(f, "{whole}{}", BINARY_SUFFIXES[steps])
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.sign().cmp(&other.sign());
        if signs != Ordering::Equal || self.is_zero() {
            return signs;
        }
        // Same sign: the finer exponent is the common one; a product too large to hold decides by itself.
        let exponent = self.exponent.min(other.exponent);
        let align = |q: &Quantity| {
            power_of_ten(q.exponent - exponent).and_then(|p| q.mantissa.checked_mul(p))
        };
        let magnitudes = match (align(self), align(other)) {
            (Some(mine), Some(theirs)) => return mine.cmp(&theirs),
            (None, _) => Ordering::Greater,
            (_, None) => Ordering::Less,
        };
        if self.mantissa < 0 {
            magnitudes.reverse()
        } else {
            magnitudes
        }
    }
}

/// `None` if it needs more than 128 bits.
fn power_of_ten(exponent: i32) -> Option<i128> {
    u32::try_from(exponent)
        .ok()
        .and_then(|exponent| 10i128.checked_pow(exponent))
}

fn divide_away_from_zero(mantissa: i128, divisor: Option<i128>) -> i128 {
    let Some(divisor) = divisor else {
        return mantissa.signum();
    };
    let quotient = mantissa / divisor;
    if mantissa % divisor == 0 {
        quotient
    } else {
        quotient + mantissa.signum()
    }
}

fn multiply_saturating(mantissa: i128, factor: Option<i128>) -> i128 {
    let product = factor.and_then(|factor| mantissa.checked_mul(factor));
    product.unwrap_or(match mantissa.signum() {
        -1 => i128::MIN + 1,
        0 => 0,
        _ => i128::MAX,
    })
}

/// A quantity's text taken apart. No digits at all stand for zero, as upstream has it.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err(WRONG_FORMAT);
        }
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, rest) = split_digits(unsigned);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let exponent = letters.strip_prefix(['-', '+']).unwrap_or(letters);
        if !exponent.bytes().all(|b| b.is_ascii_digit()) {
            return Err(WRONG_FORMAT);
        }
        Ok(Parts {
            negative,
            whole: whole.trim_start_matches('0'),
            fraction,
            suffix,
        })
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

/// The factor a suffix stands for.
enum Suffix {
    Ten(i32),
    Two(u32),
}

impl Suffix {
    fn of(text: &str) -> Result<(Format, Suffix), &'static str> {
        if let Some((_, exponent)) = DECIMAL_SUFFIXES.iter().find(|(suffix, _)| *suffix == text) {
            return Ok((Format::DecimalSi, Suffix::Ten(*exponent)));
        }
        if let Some(steps) = BINARY_SUFFIXES.iter().position(|suffix| *suffix == text) {
            return Ok((Format::BinarySi, Suffix::Two(10 * steps as u32)));
        }
        let exponent = text
            .strip_prefix(['e', 'E'])
            .and_then(|digits| digits.parse::<i64>().ok());
        match exponent.filter(|exponent| exponent.abs() <= EXPONENT_MAX) {
            Some(exponent) => Ok((Format::DecimalExponent, Suffix::Ten(exponent as i32))),
            None => Err(WRONG_SUFFIX),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn q(text: &str) -> Quantity {
        Quantity::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn canonical_texts() {
        let cases = [
            ("0", "0"),
            ("0Ki", "0"),
            ("-0", "0"),
            (".", "0"),
            ("Mi", "0"),
            ("1000m", "1"),
            ("0.1", "100m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1.5", "1500m"),
            ("+5", "5"),
            ("100", "100"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1024Ki", "1Mi"),
            ("1536Mi", "1536Mi"),
            ("1.5Gi", "1536Mi"),
            ("1023", "1023"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("1024", "1024"),
            ("0.5Mi", "512Ki"),
            ("0.001Ki", "1024m"),
            ("2000Ki", "2000Ki"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1.5e3", "1500"),
            ("12e2", "1200"),
            ("1e-3", "1e-3"),
            ("100e-9", "100e-9"),
            ("1E", "1E"),
            ("1Ei", "1Ei"),
            ("0.1n", "1n"),
            ("1.1n", "2n"),
            ("-1.1n", "-2n"),
            ("1e-30", "1e-9"),
            ("0.0000000001", "1n"),
            ("-500m", "-500m"),
            ("-1Ki", "-1Ki"),
            ("100Ei", "9223372036854775807"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            ("1000E", "1000E"),
            ("1e100", "10e99"),
            ("00012.500", "12500m"),
        ];
        for (text, printed) in cases {
            assert_eq!(q(text).to_string(), printed, "{text}");
        }
    }

    #[test]
    fn wrong_texts_are_refused() {
        for text in [
            "", "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", "1 ", " 1", "1i", "1mm", "1e", "1e5x",
            "1e9999", "10Kb",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text:?} parsed");
        }
        assert_eq!(Quantity::parse("1x").unwrap_err(), WRONG_FORMAT);
        assert_eq!(Quantity::parse("1mm").unwrap_err(), WRONG_SUFFIX);
    }

    #[test]
    fn values_round_up() {
        let cases = [
            ("100m", 1, 100),
            ("1001m", 2, 1001),
            ("-1500m", -2, -1500),
            ("1Ki", 1024, 1_024_000),
            ("1u", 1, 1),
            ("8Gi", 8_589_934_592, 8_589_934_592_000),
            ("1e100", i64::MAX, i64::MAX),
            ("-1e100", i64::MIN, i64::MIN),
            ("9E", 9_000_000_000_000_000_000, i64::MAX),
        ];
        for (text, value, milli) in cases {
            assert_eq!(
                (q(text).value(), q(text).milli_value()),
                (value, milli),
                "{text}"
            );
        }
    }

    #[test]
    fn amounts_compare_whatever_their_format() {
        assert_eq!(q("1Ki"), q("1024"));
        assert_eq!(q("1e3"), q("1k"));
        assert!(q("1Mi") > q("1M"));
        assert!(q("-1e100") < q("-1"));
        assert!(q("1e100") > q("1n"));
        assert!(q("1e-9") < q("1e900"));
    }

    #[test]
    fn sums_keep_the_first_format() {
        assert_eq!(q("1Gi").add(&q("512Mi")).to_string(), "1536Mi");
        assert_eq!(q("1").add(&q("500m")).to_string(), "1500m");
        assert_eq!(q("0").add(&q("1Ki")).to_string(), "1Ki");
        assert_eq!(q("1Mi").sub(&q("1Mi")).to_string(), "0");
        assert_eq!(q("1").sub(&q("1n")).to_string(), "999999999n");
        assert_eq!(q("100m").sub(&q("1")).to_string(), "-900m");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,20}|[+-]?[0-9.]{0,45}[eEinumkKMGTP]{0,3}[+-]?[0-9]{0,5}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                quantity.value();
                quantity.milli_value();
                let printed = quantity.to_string();
                let again = Quantity::parse(&printed);
                prop_assert_eq!(again.as_ref().map(ToString::to_string), Ok(printed));
                prop_assert_eq!(again, Ok(quantity));
            }
        }

        /// The model: thousandths as plain integers.
        #[test]
        fn arithmetic_agrees_with_integers(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
            let (x, y) = (q(&format!("{a}m")), q(&format!("{b}m")));
            prop_assert_eq!(x.milli_value(), a);
            prop_assert_eq!(x.add(&y).milli_value(), a + b);
            prop_assert_eq!(x.sub(&y).milli_value(), a - b);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x.value(), if a < 0 { -((-a + 999) / 1000) } else { (a + 999) / 1000 });
        }

        #[test]
        fn extremes_never_overflow(a in any::<i128>(), b in any::<i128>(), ea in 0..900i32, eb in 0..900i32) {
            let x = Quantity::rounded(a / 2, ea, Format::DecimalSi);
            let y = Quantity::rounded(b / 2, eb, Format::BinarySi);
            let _ = (x.add(&y), x.sub(&y), x.cmp(&y), x.value(), y.to_string());
        }
    }
}
