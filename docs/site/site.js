// what scrolls sideways can be reached by the keyboard; the theme wraps its tables when a page is shown
const reach = () => document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code").forEach((each) => { each.tabIndex = 0; });
document$.subscribe(() => requestAnimationFrame(reach));
