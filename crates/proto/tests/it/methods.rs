//! The table of methods, its macro and the descriptor agree.

use gp_proto::{METHODS, SERVICE, descriptors};
use prost::Message;

/// A method's name, and whether its two messages decode from nothing, which every message of proto3 does.
macro_rules! list {
    ($($method:ident: $request:ty => $response:ty;)*) => {
        [$((
            stringify!($method),
            <$request>::decode(&[][..]).is_ok() && <$response>::decode(&[][..]).is_ok(),
        ),)*]
    };
}

#[test]
fn the_macro_lists_every_method_in_order() {
    let listed = gp_proto::for_each_rpc!(list);
    assert_eq!(listed.len(), 117);
    for ((name, decodes), (known, _, _)) in listed.into_iter().zip(METHODS) {
        assert_eq!(name, known);
        assert!(decodes, "{name}");
    }
}

#[test]
fn the_table_is_that_of_the_descriptor() {
    let service = descriptors().get_service_by_name(SERVICE).expect("our service");
    let described: Vec<(String, String, String)> = service
        .methods()
        .map(|it| (it.name().to_owned(), it.input().name().to_owned(), it.output().name().to_owned()))
        .collect();
    let table: Vec<(String, String, String)> =
        METHODS.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect();
    assert_eq!(table, described);
}
