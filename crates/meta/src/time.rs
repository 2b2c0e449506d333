//! Times and durations as the API writes them: RFC 3339 in whole seconds or six digits, Go durations, and the ages
//! kubectl prints. Knows no clock: times are microseconds since the Unix epoch, passed in.

use std::fmt::Write;

/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Years beyond four digits cannot be written in RFC 3339; times are clamped to what can.
const SECONDS_MIN: i64 = -62_135_596_800;
const SECONDS_MAX: i64 = 253_402_300_799;

/// `2026-01-02T03:04:05Z`, the form of most times in the API; the fraction is dropped.
pub fn format_seconds(micros: i64) -> String {
    let mut out = date_and_time(micros.div_euclid(MICROS_PER_SECOND));
    out.push('Z');
    out
}

/// `2026-01-02T03:04:05.000006Z`, the form of a MicroTime: Leases and Events.
pub fn format_micros(micros: i64) -> String {
    let mut out = date_and_time(micros.div_euclid(MICROS_PER_SECOND));
    // Writing to a String cannot fail.
    let _ = write!(out, ".{:06}Z", micros.rem_euclid(MICROS_PER_SECOND));
    out
}

fn date_and_time(seconds: i64) -> String {
    let seconds = seconds.clamp(SECONDS_MIN, SECONDS_MAX);
    let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
    let second = seconds.rem_euclid(SECONDS_PER_DAY);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Microseconds of an RFC 3339 time with any offset and any number of fraction digits.
pub fn parse(text: &str) -> Result<i64, String> {
    parse_parts(text.as_bytes()).ok_or_else(|| {
        format!(
            "parsing time {} as \"2006-01-02T15:04:05Z07:00\": not an RFC 3339 time",
            crate::quote::quote(text)
        )
    })
}

fn parse_parts(text: &[u8]) -> Option<i64> {
    let (head, mut tail) = text.split_at_checked(19)?;
    for (at, mark) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if head[at] != mark {
            return None;
        }
    }
    let (year, month, day) = (
        number(&head[..4])?,
        number(&head[5..7])?,
        number(&head[8..10])?,
    );
    let (hour, minute, second) = (
        number(&head[11..13])?,
        number(&head[14..16])?,
        number(&head[17..])?,
    );
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut micros = 0;
    if let Some((b'.', fraction)) = tail.split_first() {
        let count = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        for place in 0..6 {
            micros = micros * 10
                + fraction
                    .get(place)
                    .filter(|_| place < count)
                    .map_or(0, |d| i64::from(d - b'0'));
        }
        tail = &fraction[count..];
    }
    let seconds =
        days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    Some((seconds - offset_seconds(tail)?) * MICROS_PER_SECOND + micros)
}

fn offset_seconds(text: &[u8]) -> Option<i64> {
    match text {
        [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), hours @ .., b':', tens, ones] if hours.len() == 2 => {
            let (hours, minutes) = (number(hours)?, number(&[*tens, *ones])?);
            let seconds = hours * 3600 + minutes * 60;
            let valid = hours <= 23 && minutes <= 59;
            valid.then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + i64::from(digit - b'0'))
    })
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a Gregorian date. Years begin in March here, so that the leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day, the inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The age kubectl prints: two units while young, one later; `3m20s`, `47h`, `2d3h`, `3y4d`.
pub fn human_duration(micros: i64) -> String {
    // Truncated toward zero, so that a clock up to two seconds ahead still counts as now.
    let seconds = micros / MICROS_PER_SECOND;
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / SECONDS_PER_DAY);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two_units(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two_units(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two_units(days, 'd', hours % 24, 'h'),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => two_units(days / 365, 'y', days % 365, 'd'),
        () => format!("{}y", days / 365),
    }
}

fn two_units(large: i64, large_unit: char, small: i64, small_unit: char) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

/// The age of a time text as kubectl prints it; `<unknown>` if there is none.
pub fn age(timestamp: Option<&str>, now_micros: i64) -> String {
    match timestamp.map(parse) {
        Some(Ok(then)) => human_duration(now_micros.saturating_sub(then)),
        _ => "<unknown>".to_owned(),
    }
}

/// A duration as Go prints it, the form of metav1.Duration: `1m30s`, `1.5s`, `0s`.
pub fn format_go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (unit_nanos, unit) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    if unit != "s" {
        return format!("{sign}{}{unit}", decimal(nanos, unit_nanos));
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = decimal(nanos % 60_000_000_000, unit_nanos);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

fn decimal(amount: u64, unit: u64) -> String {
    if amount.is_multiple_of(unit) {
        return (amount / unit).to_string();
    }
    let width = unit.ilog10() as usize;
    let fraction = format!("{:0width$}", amount % unit);
    format!("{}.{}", amount / unit, fraction.trim_end_matches('0'))
}

/// Nanoseconds of a Go duration text such as `1h15m30.5s`.
pub fn parse_go_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", crate::quote::quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let length = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (amount, after) = rest.split_at(length);
        let unit_length = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_length);
        let unit_nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(invalid()),
        };
        total = total
            .checked_add(amount_nanos(amount, unit_nanos).ok_or_else(invalid)?)
            .ok_or_else(invalid)?;
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

fn amount_nanos(amount: &str, unit_nanos: i128) -> Option<i128> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // Digits finer than a nanosecond of the largest unit change nothing.
    let fraction = &fraction[..fraction.len().min(15)];
    let numerator: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let denominator = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    whole
        .checked_mul(unit_nanos)?
        .checked_add(numerator * unit_nanos / denominator)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_and_parses_known_times() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (1_767_323_045, "2026-01-02T03:04:05Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (SECONDS_MIN, "0001-01-01T00:00:00Z"),
            (SECONDS_MAX, "9999-12-31T23:59:59Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(format_seconds(seconds * MICROS_PER_SECOND), text);
            assert_eq!(parse(text), Ok(seconds * MICROS_PER_SECOND));
        }
        assert_eq!(
            format_micros(1_767_323_045_000_006),
            "2026-01-02T03:04:05.000006Z"
        );
    }

    #[test]
    fn parses_offsets_and_fractions() {
        let want = 1_767_323_045_000_000;
        assert_eq!(parse("2026-01-02T05:04:05+02:00"), Ok(want));
        assert_eq!(parse("2026-01-01T21:34:05-05:30"), Ok(want));
        assert_eq!(parse("2026-01-02T03:04:05.5Z"), Ok(want + 500_000));
        assert_eq!(parse("2026-01-02T03:04:05.123456789Z"), Ok(want + 123_456));
    }

    #[test]
    fn refuses_what_is_not_a_time() {
        for text in [
            "",
            "2026-01-02",
            "2026-02-29T00:00:00Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05+0200",
            "2026-13-01T00:00:00Z",
            "2026-01-02 03:04:05Z",
            "日本日本日本日本",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (183_600, "2d3h"),
            (691_200, "8d"),
            (63_071_999, "729d"),
            (63_072_000, "2y"),
            (63_072_000 + 86_400 * 4, "2y4d"),
            (86_400 * 365 * 9, "9y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(
                human_duration(seconds * MICROS_PER_SECOND),
                text,
                "{seconds}"
            );
        }
        assert_eq!(age(None, 0), "<unknown>");
        assert_eq!(age(Some("1970-01-01T00:00:00Z"), 5_900_000), "5s");
    }

    #[test]
    fn go_durations() {
        let cases = [
            (0, "0s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (15_000_000, "15ms"),
            (1_100, "1.1µs"),
            (-5_000_000_000, "-5s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(format_go_duration(nanos), text);
            assert_eq!(parse_go_duration(text), Ok(nanos));
        }
        assert_eq!(parse_go_duration("1h15m30.918s"), Ok(4_530_918_000_000));
        for text in ["", "5", "1x", "s", "1..2s", "99999999999h"] {
            assert!(parse_go_duration(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn times_survive_the_round_trip(micros in SECONDS_MIN * MICROS_PER_SECOND..SECONDS_MAX * MICROS_PER_SECOND) {
            prop_assert_eq!(parse(&format_micros(micros)), Ok(micros));
        }

        #[test]
        fn durations_survive_the_round_trip(nanos in -i64::MAX..i64::MAX) {
            prop_assert_eq!(parse_go_duration(&format_go_duration(nanos)), Ok(nanos));
        }

        #[test]
        fn nothing_panics(text in ".{0,40}", micros in any::<i64>()) {
            let _ = (parse(&text), parse_go_duration(&text), format_micros(micros), human_duration(micros));
            let _ = format_go_duration(micros);
        }
    }
}
