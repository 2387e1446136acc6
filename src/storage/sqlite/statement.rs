//! SQL as functions: a text that is fixed when chatd is compiled, with typed parameters and columns.
//!
//! Diesel prepares its `sql_query` anew each time. A statement made here has an identity of its own, so that
//! diesel keeps it prepared on each connection: that is the difference between 3 and 15 µs a row.

use diesel::sql_types::{BigInt, Binary, Integer, Nullable, Text};

/// A Rust type with the one SQL type that it stands for; rows are tuples of them, and may be nested.
pub(super) trait Column {
    /// The SQL type.
    type Sql;
}

impl Column for i64 {
    type Sql = BigInt;
}
impl Column for i32 {
    type Sql = Integer;
}
impl Column for &str {
    type Sql = Text;
}
impl Column for String {
    type Sql = Text;
}
impl Column for &[u8] {
    type Sql = Binary;
}
impl Column for Vec<u8> {
    type Sql = Binary;
}
impl<T: Column<Sql: diesel::sql_types::SqlType<IsNull = diesel::sql_types::is_nullable::NotNull>>> Column
    for Option<T>
{
    type Sql = Nullable<T::Sql>;
}

macro_rules! rows {
    ($($column:ident)+) => {
        impl<$($column: Column),+> Column for ($($column,)+) {
            type Sql = ($($column::Sql,)+);
        }
    };
}
rows!(A);
rows!(A B);
rows!(A B C);
rows!(A B C D);
rows!(A B C D E);
rows!(A B C D E F);
rows!(A B C D E F G);
rows!(A B C D E F G H);
rows!(A B C D E F G H I);
rows!(A B C D E F G H I J K);
rows!(A B C D E F G H I J K L M);
rows!(A B C D E F G H I J K L M N O P Q R);

/// Makes a function of a statement. Each `?` of the text takes the next parameter; references in parameters
/// are written `&'a`. With `-> (A, B)` the function returns all rows as such tuples, without it the number
/// of changed rows.
macro_rules! statement {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $row:ty = $sql:expr) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "the parameters of a statement")]
        #[allow(clippy::extra_unused_lifetimes, reason = "without borrowed parameters")]
        pub(super) fn $name<'a>(
            conn: &mut diesel::sqlite::SqliteConnection,
            $($arg: $type),*
        ) -> diesel::QueryResult<Vec<$row>> {
            $crate::storage::sqlite::statement::statement!(@define [$($arg: $type),*] $sql);
            impl diesel::query_builder::Query for Statement<'_> {
                type SqlType = <$row as $crate::storage::sqlite::statement::Column>::Sql;
            }
            diesel::RunQueryDsl::load(Statement { $($arg,)* _borrows: std::marker::PhantomData }, conn)
        }
    };
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $sql:expr) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "the parameters of a statement")]
        #[allow(clippy::extra_unused_lifetimes, reason = "without borrowed parameters")]
        pub(super) fn $name<'a>(
            conn: &mut diesel::sqlite::SqliteConnection,
            $($arg: $type),*
        ) -> diesel::QueryResult<usize> {
            $crate::storage::sqlite::statement::statement!(@define [$($arg: $type),*] $sql);
            diesel::RunQueryDsl::execute(Statement { $($arg,)* _borrows: std::marker::PhantomData }, conn)
        }
    };
    (@define [$($arg:ident: $type:ty),*] $sql:expr) => {
        struct Statement<'a> {
            $($arg: $type,)*
            _borrows: std::marker::PhantomData<&'a ()>,
        }
        impl diesel::query_builder::QueryId for Statement<'_> {
            type QueryId = Statement<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }
        impl<'a> diesel::query_builder::QueryFragment<diesel::sqlite::Sqlite> for Statement<'a> {
            #[allow(unused_assignments, unused_mut, unused_variables, reason = "without parameters")]
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::sqlite::Sqlite>,
            ) -> diesel::QueryResult<()> {
                let mut parts = $sql.split('?');
                out.push_sql(parts.next().unwrap_or_default());
                $(
                    out.push_bind_param::<<$type as $crate::storage::sqlite::statement::Column>::Sql, _>(
                        &self.$arg,
                    )?;
                    out.push_sql(parts.next().unwrap_or_default());
                )*
                Ok(())
            }
        }
        impl diesel::RunQueryDsl<diesel::sqlite::SqliteConnection> for Statement<'_> {}
    };
}
pub(super) use statement;
