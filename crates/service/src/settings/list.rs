//! The macro that lists the settings of a program.

/// Lists settings: a struct with a typed field for each, and their part of the [`Table`](crate::settings::Table).
///
/// The doc comment of an entry is its help. The struct gets `SECTIONS`, and `read`, which parses every value. A module
/// beside it, with the name that is given, holds one handle for each setting, for rules that span settings and for
/// errors that name one.
///
/// ```
/// use std::time::Duration;
/// use tickstream_service::settings::{Table, Values, kind};
///
/// tickstream_service::settings! {
///     /// Settings of a program, each valid by itself.
///     pub struct Settings, handles in setting;
///     section "Limits" {
///         /// Requests that wait at the same time.
///         queue_max: u32 = kind::integer(1, 1_000, "").default("64");
///         /// Time after which a request is given up.
///         patience: Duration = kind::duration(Duration::from_secs(1), Duration::from_secs(60)).default("5s").live();
///     }
/// }
///
/// static TABLE: Table = Table { command: "example", groups: &[Settings::SECTIONS], former_variables: &[] };
///
/// fn main() {
///     let values = Values::of_program(&TABLE, [("patience", "10s")]).unwrap();
///     let settings = Settings::read(&values).unwrap();
///     assert_eq!((settings.queue_max, settings.patience), (64, Duration::from_secs(10)));
/// }
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident, handles in $handles:ident;
        $(
            section $title:literal {
                $( $(#[doc = $help:literal])+ $key:ident: $type:ty = $entry:expr; )*
            }
        )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name {
            $($( $(#[doc = $help])+ pub $key: $type, )*)*
        }

        impl $name {
            /// Their part of the table.
            pub const SECTIONS: &'static [$crate::settings::Section] = &[
                $( $crate::settings::Section { title: $title, settings: &[ $( &$handles::$key, )* ] }, )*
            ];

            /// Parses every value.
            ///
            /// # Errors
            /// The first value that isn't accepted.
            pub fn read(
                values: &$crate::settings::Values,
            ) -> Result<Self, $crate::settings::ConfigError> {
                Ok(Self { $($( $key: values.read(&$handles::$key)?, )*)* })
            }
        }

        /// A handle for each setting.
        #[allow(non_upper_case_globals)]
        $vis mod $handles {
            #[allow(unused_imports)]
            use super::*;

            $($(
                $(#[doc = $help])+
                pub static $key: $crate::settings::Setting<$type> =
                    ($entry).named(stringify!($key), concat!($($help),+));
            )*)*
        }
    };
}
