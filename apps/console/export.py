"""The exports of a list: all rows that its filters select, as CSV or XLSX, in constant memory."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from decimal import Decimal
from functools import partial
from tempfile import TemporaryFile
from threading import BoundedSemaphore
from typing import IO, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin

from apps.audit.chain import record
from apps.audit.models import Deed
from apps.console.page_timeout import show_busy
from apps.console.personal import describe_query
from apps.console.readonly import ReadOnlyAdmin
from apps.console.unreadable import MARK, UNREADABLE_ERRORS, is_unreadable, read_rows
from techmarket.formats import localize_count
from techmarket.spreadsheets import MAX_XLSX_ROWS, TooManyRows, write_csv, write_xlsx
from techmarket.statement_limits import unlimited_statements

CHUNK_ROWS = 2_000  # fetched at a time by the export
MAX_EXPORTS = 2  # of this process at once: each occupies one of gunicorn's four threads until its client has it all
SEND_TIMEOUT_S = 60.0  # a client that takes nothing for so long is cut off
running = BoundedSemaphore(MAX_EXPORTS)
XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


class ExportAdmin(ReadOnlyAdmin):
    """Adds *Export CSV* and *Export XLSX* to the list. A page names the file and its columns, and returns the cells of a row."""

    export_name: str
    export_header: tuple[str, ...]
    list_before_template = "console/export.html"

    def export_cells(self, row: Any) -> Sequence[object]:
        """Return the row's cells in the active language."""
        raise NotImplementedError

    def get_urls(self) -> list[Any]:
        answers = {"csv": self.answer_csv, "xlsx": self.answer_xlsx}
        views = {kind: self.admin_site.admin_view(partial(self.export, answer=answer)) for kind, answer in answers.items()}
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        return [*(path(f"{kind}/", view, name=f"{name}_{kind}") for kind, view in views.items()), *super().get_urls()]

    def export(self, request: HttpRequest, answer: "Callable[[HttpRequest, QuerySet[Model]], HttpResponseBase]") -> HttpResponseBase:
        """Answer with all rows that the list's filters select."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET"])
        try:
            rows = ModelAdmin.get_changelist_instance(self, request).get_queryset(request)
            rows.exists()  # fails where the query cannot be asked, before the file begins
        except UNREADABLE_ERRORS as error:
            if not is_unreadable(error):
                raise
            return redirect(f"{self.list_address()}?{request.GET.urlencode()}")  # which says what is wrong
        return self.answer_in_turn(request, rows, answer)

    def answer_in_turn(
        self, request: HttpRequest, rows: "QuerySet[Model]", answer: "Callable[[HttpRequest, QuerySet[Model]], HttpResponseBase]"
    ) -> HttpResponseBase:
        """Answer where fewer than MAX_EXPORTS are running; this one runs until its client has it all, or has gone away."""
        if not running.acquire(blocking=False):
            return show_busy(request, _("Other exports are being written. Wait until they have ended, then try again."))
        try:
            kind, chosen = answer.__name__.removeprefix("answer_"), describe_query(self.model, request.GET)
            record(Deed.DATA_EXPORTED, after={"format": kind, "model": self.opts.label, "filters": chosen})
            with unlimited_statements():
                response = answer(request, rows)
        except BaseException:
            running.release()
            raise
        limit_sending(request)
        release = weakref.finalize(response, running.release)  # once, also where nobody closes the response
        response._resource_closers.append(release)  # type: ignore[attr-defined]
        return response

    def answer_csv(self, request: HttpRequest, rows: "QuerySet[Model]") -> StreamingHttpResponse:
        """Stream the file, with no more than CHUNK_ROWS in memory."""
        lines = write_csv(self.export_header, self.render_cells(rows, get_language()))
        headers = {"Content-Disposition": f'attachment; filename="{self.export_name}.csv"'}
        return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)

    def answer_xlsx(self, request: HttpRequest, rows: "QuerySet[Model]") -> FileResponse | HttpResponse:
        """Send the file once it is written, or return to the list where a sheet does not hold the rows."""
        try:
            file = self.write_file(request, rows)
        except TooManyRows:
            text = _("An XLSX sheet holds at most %s rows. Narrow the filters, or export CSV, which has no limit.")
            messages.error(request, text % localize_count(MAX_XLSX_ROWS))
            return redirect(f"{self.list_address()}?{request.GET.urlencode()}")
        return FileResponse(file, as_attachment=True, filename=f"{self.export_name}.xlsx", content_type=XLSX_TYPE)

    def write_file(self, request: HttpRequest, rows: "QuerySet[Model]") -> IO[bytes]:
        """Return a temporary file with the rows. Raises TooManyRows: at once, or if rows were added meanwhile."""
        if rows[MAX_XLSX_ROWS : MAX_XLSX_ROWS + 1].exists():
            raise TooManyRows
        with ExitStack() as stack:
            file = stack.enter_context(TemporaryFile())
            write_xlsx(self.export_header, self.render_cells(rows, get_language()), file)
            stack.pop_all()  # the response closes it
        file.seek(0)
        return file

    def render_cells(self, rows: "QuerySet[Model]", language: str | None) -> Iterator[Sequence[object]]:
        for row in read_rows(rows, CHUNK_ROWS):
            with override(language):  # CSV is streamed when the request, and its language, may be over
                cells = self.export_cells(row)
            yield [f"{MARK} {cell}" if isinstance(cell, Decimal) and not cell.is_finite() else cell for cell in cells]

    def list_address(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")


def limit_sending(request: HttpRequest) -> None:
    """Let gunicorn's thread wait no longer than SEND_TIMEOUT_S for a client that takes nothing. Its next request sets the socket anew."""
    if sock := request.META.get("gunicorn.socket"):
        sock.settimeout(SEND_TIMEOUT_S)


def spell_instant(instant: datetime | str) -> str:
    """Return the instant to the second, or the text of one that cannot be read."""
    return instant.isoformat(timespec="seconds") if isinstance(instant, datetime) else instant
