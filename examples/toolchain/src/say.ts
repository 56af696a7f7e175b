import main from "./main";

for (const line of main()) console.log(line);
