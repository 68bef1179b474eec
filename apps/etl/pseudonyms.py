"""What stands in the place of a customer who is forgotten: the id stays, so that sums and counts do. Names and address say nothing."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

# The batches that name customers, with the column of the id: raw rows of the source, and clean rows for the warehouse.
NAMED_IN = {"customers": "id", "dim_customer": "customer_id"}


def pseudonyms_of(customer_id: int) -> dict[str, str]:
    """Return the personal columns of a customer. The address is well-formed, and no mail can be sent to it (RFC 2606)."""
    return {"first_name": "Customer", "last_name": str(customer_id), "email": f"customer-{customer_id}@erased.invalid"}


def pseudonymize(name: str, batch: "pa.Table", customers: Collection[int]) -> "pa.Table":
    """Return the batch with the pseudonyms of these customers; the same object where it names none of them."""
    positions = find_positions(batch[NAMED_IN[name]], customers) if name in NAMED_IN and customers else {}
    if not positions:
        return batch
    for column in pseudonyms_of(0):
        values = batch[column].to_pylist()
        for position, customer_id in positions.items():
            values[position] = pseudonyms_of(customer_id)[column]
        batch = batch.set_column(batch.column_names.index(column), batch.field(column), [to_array(values, batch[column].type)])
    return batch


def find_positions(ids: "pa.ChunkedArray", customers: Collection[int]) -> dict[int, int]:
    """Return the customer by the position of its row; an id is a number, or text where the source has no integers."""
    wanted = {str(customer_id): customer_id for customer_id in customers}
    texts = (each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in ids.to_pylist())
    return {position: wanted[text] for position, text in enumerate(texts) if text in wanted}


def to_array(values: list[Any], type: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    texts = [value.encode() if pa.types.is_binary(type) and isinstance(value, str) else value for value in values]
    return pa.array(texts, type.value_type).dictionary_encode() if pa.types.is_dictionary(type) else pa.array(texts, type)
