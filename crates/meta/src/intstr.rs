//! Fields that hold a number or a percentage, such as `maxUnavailable: 25%`.
//! Knows nothing of which fields those are.

use value::Value;

use crate::quote::quote;

/// The number, or the share of `total` that a percentage stands for, rounded up or down.
pub fn int_or_percent(value: &Value, total: i64, round_up: bool) -> Result<i64, String> {
    match value {
        Value::Number(number) => number.as_i64().ok_or_else(|| {
            format!("invalid value for IntOrString: {number} is not a whole number")
        }),
        Value::String(text) => Ok(share(percentage(text)?, total, round_up)),
        _ => Err("invalid value for IntOrString: neither a number nor a text".to_owned()),
    }
}

/// The number of a text such as `25%`.
pub fn percentage(text: &str) -> Result<i64, String> {
    let Some(digits) = text.strip_suffix('%') else {
        return Err(
            "invalid value for IntOrString: invalid type: string is not a percentage".to_owned(),
        );
    };
    digits.parse::<i64>().map_err(|_| {
        format!(
            "invalid value for IntOrString: invalid value {}: invalid syntax",
            quote(text)
        )
    })
}

/// How the field prints in tables and messages.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "0".to_owned(),
        other => other.to_string(),
    }
}

fn share(percent: i64, total: i64, round_up: bool) -> i64 {
    let exact = i128::from(percent) * i128::from(total);
    let down = exact.div_euclid(100);
    let share = if round_up && exact.rem_euclid(100) != 0 {
        down + 1
    } else {
        down
    };
    i64::try_from(share).unwrap_or(if share < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use value::json;

    use super::*;

    #[test]
    fn numbers_stay_and_percentages_scale() {
        assert_eq!(int_or_percent(&json!(3), 10, true), Ok(3));
        assert_eq!(int_or_percent(&json!("25%"), 10, true), Ok(3));
        assert_eq!(int_or_percent(&json!("25%"), 10, false), Ok(2));
        assert_eq!(int_or_percent(&json!("100%"), 7, false), Ok(7));
        assert_eq!(int_or_percent(&json!("0%"), 7, true), Ok(0));
        assert_eq!(
            int_or_percent(&json!("9223372036854775807%"), i64::MAX, true),
            Ok(i64::MAX)
        );
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(
            int_or_percent(&json!("3"), 10, true),
            Err(
                "invalid value for IntOrString: invalid type: string is not a percentage"
                    .to_owned()
            )
        );
        assert!(int_or_percent(&json!("x%"), 10, true).is_err());
        assert!(int_or_percent(&json!(1.5), 10, true).is_err());
        assert!(int_or_percent(&Value::Null, 10, true).is_err());
    }
}
