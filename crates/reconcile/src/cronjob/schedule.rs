//! Schedules: five fields of numbers, ranges, steps and lists, the usual macros, and the times they mean in UTC.
//!
//! Knows the calendar. Knows no CronJob.

use std::ops::RangeInclusive;

const MICROS: i64 = 1_000_000;
const MINUTE_SECONDS: i64 = 60;
const DAY_SECONDS: i64 = 86_400;
/// A schedule without a day in so many days has none at all: the longest wait is for a 29 February, over 1900 or 2100.
const SEARCH_DAYS: i64 = 9 * 366;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// When something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At the minutes that match all fields.
    Fields(Box<Fields>),
    /// `@every`: in steps of so many seconds from wherever one starts.
    Every {
        /// At least 1.
        seconds: i64,
    },
}

/// The five fields, a bit for each number that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// With a star in either field of days, both must match; otherwise one is enough.
    any_day: bool,
}

impl Schedule {
    /// Parses the text of `spec.schedule`.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        let text = text.trim();
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ => text,
        };
        if let Some(duration) = fields.strip_prefix("@every ") {
            let nanos = meta::time::parse_go_duration(duration.trim())
                .map_err(|error| format!("failed to parse duration {text}: {error}"))?;
            return Ok(Schedule::Every {
                seconds: (nanos / 1_000_000_000).max(1),
            });
        }
        if fields.starts_with('@') {
            return Err(format!("unrecognized descriptor: {text}"));
        }
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts[..] else {
            let found = parts.len();
            return Err(format!(
                "expected exactly 5 fields, found {found}: {parts:?}"
            ));
        };
        let (days, any_month_day) = field(days, 1..=31, &[])?;
        let (weekdays, any_weekday) = field(weekdays, 0..=6, &WEEKDAYS)?;
        Ok(Schedule::Fields(Box::new(Fields {
            minutes: field(minutes, 0..=59, &[])?.0,
            hours: field(hours, 0..=23, &[])?.0,
            days,
            months: field(months, 1..=12, &MONTHS)?.0,
            weekdays,
            any_day: any_month_day || any_weekday,
        })))
    }

    /// The first time after a moment; none if there is none in years.
    pub fn next(&self, after_micros: i64) -> Option<i64> {
        let after = after_micros.div_euclid(MICROS);
        let seconds = match self {
            Schedule::Every { seconds } => after.checked_add(*seconds)?,
            Schedule::Fields(fields) => {
                let first = (after.div_euclid(MINUTE_SECONDS) + 1) * MINUTE_SECONDS;
                let day = first.div_euclid(DAY_SECONDS);
                let mut found = (day..day + SEARCH_DAYS)
                    .filter(|day| fields.has_day(*day))
                    .flat_map(|day| fields.times(day));
                found.find(|time| *time >= first)?
            }
        };
        seconds.checked_mul(MICROS)
    }

    /// The last time after a moment and not after another one.
    pub fn last(&self, after_micros: i64, until_micros: i64) -> Option<i64> {
        let first = self.next(after_micros)?;
        if first > until_micros {
            return None;
        }
        let until = until_micros.div_euclid(MICROS);
        let seconds = match self {
            Schedule::Every { seconds } => {
                let first = first.div_euclid(MICROS);
                first + (until - first) / seconds * seconds
            }
            Schedule::Fields(fields) => {
                let day = until.div_euclid(DAY_SECONDS);
                let mut days = (day - SEARCH_DAYS..=day)
                    .rev()
                    .filter(|day| fields.has_day(*day));
                days.find_map(|day| fields.times(day).filter(|time| *time <= until).last())?
            }
        };
        Some(seconds.checked_mul(MICROS)?.max(first))
    }
}

impl Fields {
    fn has_day(&self, day: i64) -> bool {
        let (month, month_day) = month_and_day(day);
        // 1 January 1970 was a Thursday.
        let weekday = (day + 4).rem_euclid(7);
        let (by_day, by_weekday) = (has(self.days, month_day), has(self.weekdays, weekday));
        let is_day = if self.any_day {
            by_day && by_weekday
        } else {
            by_day || by_weekday
        };
        is_day && has(self.months, month)
    }

    /// The times of a day that matches, in seconds since the epoch.
    fn times(&self, day: i64) -> impl Iterator<Item = i64> + use<'_> {
        let hours = (0..24).filter(|hour| has(self.hours, *hour));
        hours.flat_map(move |hour| {
            let minutes = (0..60).filter(|minute| has(self.minutes, *minute));
            minutes.map(move |minute| day * DAY_SECONDS + (hour * 60 + minute) * MINUTE_SECONDS)
        })
    }
}

fn has(bits: u64, number: i64) -> bool {
    u32::try_from(number).is_ok_and(|number| bits.checked_shr(number).unwrap_or(0) & 1 == 1)
}

/// Month and day of the month of a day since the epoch, in the Gregorian calendar.
fn month_and_day(day: i64) -> (i64, i64) {
    // Years begin in March here, so that the leap day is the last; eras have 400 years.
    let day_of_era = (day + 719_468).rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let month_day = day_of_year - (153 * month + 2) / 5 + 1;
    (if month < 10 { month + 3 } else { month - 9 }, month_day)
}

/// The bits of a field, and whether it is a star without a step.
fn field(text: &str, range: RangeInclusive<u32>, names: &[&str]) -> Result<(u64, bool), String> {
    let (mut bits, mut star) = (0, false);
    for part in text.split(',') {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, Some(number(step, &[], 0)?)),
            None => (part, None),
        };
        let (low, high) = (*range.start(), *range.end());
        let (first, last) = if matches!(span, "*" | "?") {
            star |= step.is_none_or(|step| step == 1);
            (low, high)
        } else if let Some((first, last)) = span.split_once('-') {
            (number(first, names, low)?, number(last, names, low)?)
        } else {
            let only = number(span, names, low)?;
            // `5/15` begins at 5 and goes on to the end.
            (only, if step.is_some() { high } else { only })
        };
        if first < low {
            return Err(format!(
                "beginning of range ({first}) below minimum ({low}): {part}"
            ));
        }
        if last > high {
            return Err(format!(
                "end of range ({last}) above maximum ({high}): {part}"
            ));
        }
        if first > last {
            return Err(format!(
                "beginning of range ({first}) beyond end of range ({last}): {part}"
            ));
        }
        if step == Some(0) {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
        bits |= (first..=last)
            .step_by(step)
            .fold(0u64, |bits, number| bits | 1 << number);
    }
    Ok((bits, star))
}

fn number(text: &str, names: &[&str], low: u32) -> Result<u32, String> {
    let place = names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text));
    if let Some(place) = place.and_then(|place| u32::try_from(place).ok()) {
        return Ok(place + low);
    }
    // Rust would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(number),
        _ => Err(format!("failed to parse int from {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta::time::{format_seconds, parse};

    fn next(schedule: &str, after: &str) -> String {
        let schedule = Schedule::parse(schedule).unwrap();
        let next = schedule.next(parse(after).unwrap());
        next.map_or("never".to_owned(), format_seconds)
    }

    #[test]
    fn the_next_time_matches_every_field() {
        // 2026-01-01 is a Thursday.
        let after = "2026-01-01T10:07:30Z";
        for (schedule, expected) in [
            ("* * * * *", "2026-01-01T10:08:00Z"),
            ("*/15 * * * *", "2026-01-01T10:15:00Z"),
            ("5/20 * * * *", "2026-01-01T10:25:00Z"),
            ("0 9-17/4 * * *", "2026-01-01T13:00:00Z"),
            ("30 2 * * *", "2026-01-02T02:30:00Z"),
            ("0 0 1,15 * *", "2026-01-15T00:00:00Z"),
            ("0 0 * * MON", "2026-01-05T00:00:00Z"),
            ("0 0 * jun-aug sat,sun", "2026-06-06T00:00:00Z"),
            // Without a star, one of the two fields of days is enough.
            ("0 0 13 * 5", "2026-01-02T00:00:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("0 0 31 2 *", "never"),
            ("@hourly", "2026-01-01T11:00:00Z"),
            ("@daily", "2026-01-02T00:00:00Z"),
            ("@weekly", "2026-01-04T00:00:00Z"),
            ("@monthly", "2026-02-01T00:00:00Z"),
            ("@yearly", "2027-01-01T00:00:00Z"),
            ("@every 90s", "2026-01-01T10:09:00Z"),
        ] {
            assert_eq!(next(schedule, after), expected, "{schedule}");
        }
        assert_eq!(
            next("8 10 * * ?", "2026-01-01T10:08:00Z"),
            "2026-01-02T10:08:00Z"
        );
    }

    #[test]
    fn the_last_time_is_what_stepping_arrives_at() {
        let at = |text| parse(text).unwrap();
        let (after, until) = (at("2026-02-20T00:00:30Z"), at("2026-03-05T11:11:11Z"));
        for text in [
            "*/7 * * * *",
            "0 3 * * 1-5",
            "59 23 28 2 *",
            "@every 7m",
            "0 0 1 6 *",
        ] {
            let schedule = Schedule::parse(text).unwrap();
            let mut stepped = None;
            let mut time = schedule.next(after);
            while let Some(due) = time.filter(|due| *due <= until) {
                stepped = Some(due);
                time = schedule.next(due);
            }
            assert_eq!(schedule.last(after, until), stepped, "{text}");
        }
    }

    #[test]
    fn the_calendar_is_that_of_formatted_times() {
        for day in (-700_000..800_000).step_by(97) {
            let text = format_seconds(day * DAY_SECONDS * MICROS);
            let (month, month_day) = month_and_day(day);
            assert!(
                text.contains(&format!("-{month:02}-{month_day:02}T")),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "+1 * * * *",
            "@sometimes",
            "@every x",
            ", * * * *",
            "1-2-3 * * * *",
            "99999999999 * * * *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
