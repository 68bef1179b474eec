import pytest

from tests.failures.advice import files
from tests.failures.advice.steps import Cause, take
from tests.failures.conftest import Shop, needs_files

FILES: dict[str, Cause] = {
    "database.missing_table": files.new_installation,
    "database.lost_table": files.lost_table,
    "database.lost_column": files.lost_column,
    "database.missing_source_table": files.missing_source_table,
    "database.missing_column": files.missing_source_column,
    "database.other_type": files.other_type,
    "database.unreachable": files.stopped_server,
    "database.unknown_host": files.unknown_host,
    "database.no_session": files.port_of_another_program,
    "database.bad_option": files.option_of_the_driver,
    "database.file_unwritable": files.read_only_folder,
    "database.file_read_only": files.read_only_file,
    "database.file_foreign": files.foreign_file,
    "database.file_damaged": files.damaged_file,
    "database.file_locked": files.locked_file,
    "database.disk_full": files.full_disk,
    "database.disk_error": files.disk_that_refuses_a_write,
}


@needs_files
@pytest.mark.parametrize("code", FILES)
def test_step_helps(shop: Shop, code: str) -> None:
    take(shop, FILES[code], code)
