from zerver import App, CtxView, Decision, Done, Need, Slot, http, step

app = App()


class Page(Slot[str]):
    """The page, as text."""


@app.get("/hello/{name}")
def hello(ctx: CtxView) -> Decision:
    return Done.json({"hello": ctx.param("name")})


@step
def fetch(ctx: CtxView[Page, Page]) -> Decision:
    return Need([http.get(ctx.query("url"), into=Page, timeout=0.5, required=False)])


def size(ctx: CtxView[Page]) -> Decision:
    page = ctx.optional(Page)
    return Done.json({"characters": len(page) if page else None, "problems": [e.what for e in ctx.errors]})


app.get("/size", fetch, size)
