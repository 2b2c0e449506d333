//! A decoded list of headers: one block of bytes and where its fields lie. Reused from request to request.

use std::fmt;

/// Pseudo-headers and headers in the order they came.
#[derive(Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// As RFC 9113 §6.5.2 counts it.
    list_bytes: usize,
    /// More came than may be: fields are missing.
    pub(crate) is_cut: bool,
    /// A name or a value has bytes that no header may have.
    pub(crate) is_unsound: bool,
}

#[derive(Clone, Copy)]
struct Span {
    name: u32,
    value: u32,
    end: u32,
}

/// What RFC 9113 §6.5.2 counts for a field beside its bytes.
const FIELD_OVERHEAD_BYTES: usize = 32;

impl Fields {
    /// The value of the first field of this name, which must be in lower case.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().filter_map(|span| self.at(*span))
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    fn at(&self, span: Span) -> Option<(&[u8], &[u8])> {
        let name = self.bytes.get(span.name as usize..span.value as usize)?;
        let value = self.bytes.get(span.value as usize..span.end as usize)?;
        Some((name, value))
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.list_bytes = 0;
        self.is_cut = false;
        self.is_unsound = false;
    }

    /// Where the next field's bytes go. The caller appends name and value, then calls [`Fields::close`].
    pub(crate) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The field whose name begins at `name` and whose value begins at `value` is complete; it is kept while the list
    /// is within `bytes_max`.
    pub(crate) fn close(&mut self, name: usize, value: usize, bytes_max: usize) {
        let end = self.bytes.len();
        self.list_bytes = self
            .list_bytes
            .saturating_add(end.saturating_sub(name) + FIELD_OVERHEAD_BYTES);
        let span = (
            u32::try_from(name),
            u32::try_from(value),
            u32::try_from(end),
        );
        match span {
            (Ok(name), Ok(value), Ok(end)) if self.list_bytes <= bytes_max => {
                self.spans.push(Span { name, value, end });
            }
            _ => {
                self.is_cut = true;
                self.bytes.truncate(name);
            }
        }
    }

    /// Bytes of memory kept for reuse.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| {
                (
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(value),
                )
            }))
            .finish()
    }
}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'a [u8], &'a [u8])>>(fields: I) -> Self {
        let mut list = Fields::default();
        for (name, value) in fields {
            let at = list.bytes.len();
            list.bytes.extend_from_slice(name);
            let middle = list.bytes.len();
            list.bytes.extend_from_slice(value);
            list.close(at, middle, usize::MAX);
        }
        list
    }
}
