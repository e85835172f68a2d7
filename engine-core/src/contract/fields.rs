//! The fields of a request that a guest gets only if its function includes them.

/// A field of a request that a guest gets only if its function includes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Field {
    /// [`Request::remote_addr`](super::Request::remote_addr).
    RemoteAddr,
    /// [`Request::client_ip`](super::Request::client_ip).
    ClientIp,
    /// [`Request::scheme`](super::Request::scheme).
    Scheme,
    /// [`Request::host`](super::Request::host). The header of that name is always there.
    Host,
    /// [`Request::proto`](super::Request::proto).
    Proto,
    /// [`Request::original_uri`](super::Request::original_uri).
    OriginalUri,
}

impl Field {
    /// All of them, in the order in which a guest gets them.
    pub const ALL: [Self; 6] = [
        Self::RemoteAddr,
        Self::ClientIp,
        Self::Scheme,
        Self::Host,
        Self::Proto,
        Self::OriginalUri,
    ];

    /// The name in configurations and in requests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RemoteAddr => "remote_addr",
            Self::ClientIp => "client_ip",
            Self::Scheme => "scheme",
            Self::Host => "host",
            Self::Proto => "proto",
            Self::OriginalUri => "original_uri",
        }
    }

    /// The field with that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }
}

/// A set of [`Field`]s, which is empty by default.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fields(u8);

impl Fields {
    /// All fields.
    #[must_use]
    pub fn all() -> Self {
        Field::ALL.into_iter().collect()
    }

    /// Whether `field` is one of them.
    #[must_use]
    pub fn contains(self, field: Field) -> bool {
        self.0 & bit(field) != 0
    }
}

impl FromIterator<Field> for Fields {
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        Self(fields.into_iter().fold(0, |set, field| set | bit(field)))
    }
}

fn bit(field: Field) -> u8 {
    1 << field as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_it_was_made_of() {
        for field in Field::ALL {
            assert_eq!(Field::named(field.name()), Some(field));
            assert!(Fields::all().contains(field));
            assert!(!Fields::default().contains(field));
            let one = Fields::from_iter([field, field]);
            let contained = Field::ALL.into_iter().filter(|&other| one.contains(other));
            assert_eq!(contained.collect::<Vec<_>>(), [field]);
        }
        assert_eq!(Field::named("Host"), None);
    }
}
